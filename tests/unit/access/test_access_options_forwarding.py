"""`ssh.forward` of roles: what a rule names, and what none opens."""

from __future__ import annotations

import ipaddress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pkgs.common.access.options.forwarding import (
    ANYWHERE,
    Destinations,
    SocketRule,
    compile_rule,
    destinations,
)
from pkgs.common.errors import InputError
from pkgs.common.resources.metadata import Metadata
from pkgs.common.resources.role import Conditions, Role, RoleSpec, SshConditions, SshForwardRule

LABELS = {"env": "prod"}
OWN = "this host's own loopback is not forwarded to"


def role(name: str, *rules: SshForwardRule, deny: tuple[SshForwardRule, ...] = (), **allow) -> Role:
    values = {"logins": ["root"], "node_labels": {"env": "prod"}, **allow}
    return Role(
        metadata=Metadata(name=name),
        spec=RoleSpec(
            allow=Conditions(ssh=SshConditions(forward=list(rules)), **values),
            deny=Conditions(ssh=SshConditions(forward=list(deny)), node_labels={"*": "*"} if deny else {}),
        ),
    )


def to(where: str, *ports: str, direction="local") -> SshForwardRule:
    return SshForwardRule(to=where, ports=list(ports), direction=direction)


def unix(path: str, direction="local") -> SshForwardRule:
    return SshForwardRule(unix=path, direction=direction)


def of(*roles: Role, login: str = "root", labels=LABELS, **changes) -> Destinations:
    return destinations(roles, labels, login, {}, **changes)


def test_without_rules_only_what_the_host_keeps_is_refused() -> None:
    for found in (ANYWHERE, of(role("plain"))):
        assert found.refusal("local", "db", 5432, "10.1.2.3") == ""
        assert found.refusal("local", "localhost", 80, "127.0.0.1", own=OWN) == OWN
        assert found.refusal("remote", "localhost", 80, "127.0.0.1") == ""


@pytest.mark.parametrize(
    ("rule", "host", "port", "address", "ok"),
    [
        (to("10.0.0.0/8"), "db", 5432, "10.1.2.3", True),
        (to("10.0.0.0/8"), "10.evil.example", 5432, "192.0.2.1", False),
        (to("10.1.2.3", "5432"), "db", 5432, "10.1.2.3", True),
        (to("10.1.2.3", "5432"), "db", 5433, "10.1.2.3", False),
        (to("10.0.0.0/8", "80", "8000-8999"), "db", 8500, "10.1.2.3", True),
        (to("10.0.0.0/8", "80", "8000-8999"), "db", 9000, "10.1.2.3", False),
        (to("db.example"), "DB.example.", 5432, "192.0.2.1", True),
        (to("db.example"), "xdb.example", 5432, "192.0.2.1", False),
        (to("*.example"), "db.example", 5432, "192.0.2.1", True),
        (to("*.example"), "db.example.evil", 5432, "192.0.2.1", False),
        (to(r"^db-\d+$"), "db-17", 1, "192.0.2.1", True),
        (to(r"^db|web$"), "dbx", 1, "192.0.2.1", False),
        (to("2001:db8::/32"), "six", 443, "2001:db8::1", True),
        (to("10.0.0.0/8"), "mapped", 443, "::ffff:10.1.1.1", True),
    ],
)
def test_a_rule_names_addresses_names_and_ports(rule, host: str, port: int, address: str, ok: bool) -> None:
    assert (of(role("r", rule)).refusal("local", host, port, address) == "") is ok


@pytest.mark.parametrize(
    ("rule", "host", "ok"),
    [
        (to("127.0.0.1"), "db", True),
        (to("127.0.0.0/8"), "localhost", True),
        (to("localhost"), "localhost", True),
        (to("localhost"), "lvh.example", False),
        (to("*"), "localhost", False),
        (to("^.*$"), "localhost", False),
        (to("0.0.0.0/0"), "localhost", False),
        (to("lvh.example"), "lvh.example", False),
    ],
)
def test_a20_what_a_host_keeps_is_reached_only_where_it_is_named(rule, host: str, ok: bool) -> None:
    assert (of(role("r", rule)).refusal("local", host, 80, "127.0.0.1", own=OWN) == "") is ok


def test_a_list_confines_and_lists_add_up() -> None:
    one, two, plain = role("one", to("10.0.0.1")), role("two", to("10.0.0.2")), role("plain")
    assert of(one, plain).refusal("local", "x", 1, "10.0.0.9")
    for address in ("10.0.0.1", "10.0.0.2"):
        assert not of(one, two, plain).refusal("local", "x", 1, address)
    # The other direction has no list.
    assert not of(one).refusal("remote", "localhost", 8080, "127.0.0.1")
    assert of(role("r", to("localhost", "8080", direction="remote"))).refusal("remote", "", 8081, "127.0.0.1")


def test_a_list_counts_where_its_role_does_and_grants_while_in_force() -> None:
    listed = role("listed", to("10.0.0.1"))
    assert of(listed, login="deploy") == ANYWHERE
    assert of(listed, labels={"env": "dev"}) == ANYWHERE
    out = of(listed, in_force=lambda _: False)
    assert out.refusal("local", "x", 1, "10.0.0.1")


def test_a_deny_wins_over_every_list() -> None:
    deny = role("deny", deny=(to("10.0.0.0/8", "22"),))
    allow = role("allow", to("10.0.0.0/8"), to("0.0.0.0/0"))
    assert of(allow, deny).refusal("local", "x", 22, "10.1.1.1") == "a role denies this destination"
    assert not of(allow, deny).refusal("local", "x", 23, "10.1.1.1")
    assert of(deny).refusal("local", "x", 22, "::ffff:10.1.1.1")
    assert not of(deny, refusing=lambda _: False).refusal("local", "x", 22, "10.1.1.1")


@pytest.mark.parametrize(
    "rule",
    [to(""), to(" "), to("{{external.x}}"), to("a b"), to("host:80"), to("root@host"), to("10.0.0.0/99"),
     to("x", "0"), to("x", "65536"), to("x", "9-8"), to("x", "-1"), to("x", "http"), to("x", "1-2-3"),
     to("x", "٣"), to("^((a)$")],
)  # fmt: skip
def test_rules_that_are_none_are_refused(rule) -> None:
    with pytest.raises(InputError):
        compile_rule(rule)


@pytest.mark.fuzz
@given(where=st.text(max_size=40), ports=st.lists(st.text(max_size=12), max_size=3))
def test_any_text_is_a_rule_or_an_error(where: str, ports: list[str]) -> None:
    try:
        rule = compile_rule(SshForwardRule(to=where, ports=ports))
    except InputError:
        return
    assert not isinstance(rule, SocketRule)
    assert all(0 < low <= high <= 65535 for low, high in rule.ports)
    rule.matches("host", 80, ipaddress.ip_address("192.0.2.1"))


@pytest.mark.parametrize(
    ("rule", "path", "ok"),
    [
        (unix("/run/app.sock"), "/run/app.sock", True),
        (unix("/run/app.sock"), "/run/app.sock2", False),
        (unix("/run/app.sock"), "/RUN/app.sock", False),
        (unix("/run/app/*.sock"), "/run/app/x.sock", True),
        (unix("/run/app/*.sock"), "/run/app/deep/x.sock", False),
        (unix("/run/*"), "/run/user/0/bus", False),
        (to("10.0.0.0/8"), "/run/app.sock", False),
        (to("*"), "/run/app.sock", False),
        (to("^.*$"), "/run/app.sock", False),
        (unix("/run/app.sock", "remote"), "/run/app.sock", False),
    ],
)
def test_a_rule_names_unix_sockets(rule, path: str, ok: bool) -> None:
    assert (of(role("r", rule, to("192.0.2.1"))).socket_refusal("local", path, asked=path) == "") is ok


def test_a_rule_about_sockets_opens_no_port_and_confines_all_the_same() -> None:
    found = of(role("r", unix("/run/*")))
    assert found.refusal("local", "", 80, "10.0.0.1")
    assert found.refusal("local", "/run/x", 80, "10.0.0.1")
    assert not found.refusal("remote", "", 80, "127.0.0.1")
    assert not found.socket_refusal("remote", "/run/x", asked="/run/x")


def test_a_deny_of_sockets_reaches_below_and_heeds_both_names() -> None:
    found = of(role("allow", unix("/run/app/*")), role("deny", deny=(unix("/run/docker*"), unix("/tmp/*"))))
    refused = "a role denies this destination"
    assert found.socket_refusal("local", "/run/docker/deep/x.sock", asked="/x") == refused
    assert found.socket_refusal("local", "/run/app/x", asked="/tmp/a/link") == refused
    assert not found.socket_refusal("local", "/run/app/x", asked="/y")


def test_a20_a_socket_that_the_host_keeps_is_reached_by_its_very_path() -> None:
    path = "/var/lib/teleport/debug.sock"
    for rules, why in (((), OWN), ((unix("/var/lib/teleport/*"),), OWN), ((unix(path),), "")):
        assert of(role("r", *rules)).socket_refusal("local", path, asked=path, own=OWN) == why


@pytest.mark.parametrize(
    "rule",
    [unix("run/x"), unix("/"), unix("/run/../x"), unix("//run/x"), unix("/run/x/"), unix("/run/./x"),
     unix("/run/\n"), unix("/{{internal.logins}}/x"), unix("^/run$"), unix("/" + "x*" * 1000),
     SshForwardRule(unix="/x", to="10.0.0.1"), SshForwardRule(unix="/x", ports=["1"])],
)  # fmt: skip
def test_socket_rules_that_are_none_are_refused(rule) -> None:
    with pytest.raises(InputError):
        compile_rule(rule)


@pytest.mark.fuzz
@given(path=st.text(st.characters(codec="utf-8"), max_size=40) | st.text("/.*ab", max_size=12))
def test_any_path_is_a_rule_that_means_itself_or_an_error(path: str) -> None:
    for deny in (False, True):
        try:
            rule = compile_rule(SshForwardRule(unix=path or "x"), deny=deny)
        except InputError:
            return
        assert isinstance(rule, SocketRule)
        assert rule.matches(path)


ADDRESSES = st.ip_addresses().map(str)
RULES = st.builds(
    to, st.sampled_from(["10.0.0.0/8", "0.0.0.0/0", "::/0", "*", "localhost", "*.example", "127.0.0.1"]),
    st.sampled_from(["80", "1-65535", "443"]),
)  # fmt: skip


@given(
    allowed=st.lists(RULES, max_size=3),
    denied=st.lists(RULES, max_size=2),
    more=RULES,
    host=st.sampled_from(["localhost", "db.example", "x"]),
    port=st.sampled_from([80, 443, 9]),
    address=ADDRESSES | st.just("127.0.0.1"),
    own=st.sampled_from(["", OWN]),
)
def test_another_deny_never_widens_and_another_rule_never_narrows(
    allowed, denied, more, host: str, port: int, address: str, own: str
) -> None:
    def refused(listed, forbidden) -> bool:
        found = of(role("a", *listed), role("d", deny=tuple(forbidden)))
        return bool(found.refusal("local", host, port, address, own=own))

    assert refused(allowed, denied) <= refused(allowed, [*denied, more])
    if allowed:
        assert refused([*allowed, more], denied) <= refused(allowed, denied)
