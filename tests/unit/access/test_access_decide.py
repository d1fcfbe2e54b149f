"""The decision: tables, and properties that must hold for any set of roles."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import msgspec
import pytest

from pkgs.common.access.decide import decide
from pkgs.common.access.types import Environment, See, SshLogin, Subject, UseRule
from pkgs.common.pki.identity import Identity, PeerKind
from pkgs.common.resources.kinds import (
    AuthPreference,
    AuthPreferenceSpec,
    CommandLabel,
    Lock,
    LockSpec,
    LockTarget,
    Node,
    ServerSpec,
)
from pkgs.common.resources.metadata import Metadata
from pkgs.common.resources.presets import preset_roles
from pkgs.common.resources.role import Conditions, Role, RoleOptions, RoleSpec
from tests.harness.pace import assert_takes_under

NOW = 1_800_000_000.0
HOST_ID = "11111111-2222-4333-8444-555555555555"
ENV = Environment(now=NOW, source_addr="10.0.0.5")
ACCESS, EDITOR, AUDITOR = preset_roles()[:3]


def identity(**changes: Any) -> Identity:
    fields: dict[str, Any] = {
        "kind": PeerKind.USER,
        "name": "alice",
        "cluster": "demo",
        "roles": ("r",),
        "traits": {"logins": ("root",), "team": ("blue",)},
        "logins": ("root", "deploy", "alice"),
        "expires_at": NOW + 3600,
    }
    return Identity(**{**fields, **changes})


def role(name: str = "r", allow: Any = None, deny: Any = None, **options: Any) -> Role:
    return Role(
        metadata=Metadata(name=name),
        spec=RoleSpec(
            options=RoleOptions(**options),
            allow=Conditions(**(allow or {})),
            deny=Conditions(**(deny or {})),
        ),
    )


def node(labels: dict[str, str] | None = None, commands: dict[str, str] | None = None) -> Node:
    cmd = {key: CommandLabel(command=["x"], result=value) for key, value in (commands or {}).items()}
    return Node(
        metadata=Metadata(name=HOST_ID, labels=labels or {}), spec=ServerSpec(hostname="n", cmd_labels=cmd)
    )


def login(roles: list[Role], labels: dict[str, str], name: str = "root", **changes: Any) -> bool:
    return bool(decide(Subject(identity(**changes), roles), SshLogin(node(labels), name), ENV))


STAR = {"*": "*"}

LABEL_ROWS = [
    # selector, labels, allowed
    ({}, {"a": "b"}, False),
    (STAR, {}, True),
    (STAR, {"a": "b"}, True),
    ({"env": "prod"}, {"env": "prod"}, True),
    ({"env": "prod"}, {"env": "Prod"}, False),
    ({"env": "prod"}, {"env": "production"}, False),
    ({"env": "prod"}, {}, False),
    ({"env": ["dev", "prod"]}, {"env": "prod"}, True),
    ({"env": []}, {"env": "prod"}, False),
    ({"env": "prod", "team": "blue"}, {"env": "prod"}, False),
    ({"env": "prod", "team": "blue"}, {"env": "prod", "team": "blue", "x": "y"}, True),
    ({"env": ""}, {"env": "prod"}, False),
    ({"env": ""}, {"env": ""}, True),
    ({"env": "pro*"}, {"env": "pro"}, True),
    ({"env": "pro*"}, {"env": "pro\nx"}, True),
    ({"env": "pro*"}, {"env": "apro"}, False),
    ({"env": ["x*", "pr*"]}, {"env": "prod"}, True),
    ({"env": "^pr*"}, {"env": "prod"}, False),
    ({"env": "p**"}, {"env": "prod"}, True),
    ({"env": "*"}, {"env": ""}, True),
    ({"env": "*"}, {"team": "x"}, False),
    ({"env": "pr*d"}, {"env": "proood"}, True),
    ({"env": "pr*d"}, {"env": "prodx"}, False),
    ({"env": "a.c*"}, {"env": "abcd"}, False),
    ({"env": "*x*"}, {"env": "a\nxb"}, True),
    ({"env": "^prod|dev$"}, {"env": "production"}, True),
    ({"env": "^(prod|dev)$"}, {"env": "production"}, False),
    ({"env": "^(prod|dev)$"}, {"env": "dev"}, True),
    ({"env": "^[$"}, {"env": "^[$"}, False),
    ({"e*v": "prod"}, {"env": "prod"}, False),
    ({"team": "{{external.team}}"}, {"team": "blue"}, True),
    ({"team": "{{external.team}}"}, {"team": "red"}, False),
    ({"team": "{{external.nothing}}"}, {"team": ""}, False),
    ({"team": "x-{{external.team}}-y"}, {"team": "x-blue-y"}, True),
    ({"{{external.team}}": "1"}, {"blue": "1"}, True),
    ({"{{external.nothing}}": "1"}, {"": "1"}, False),
]


@pytest.mark.parametrize(("selector", "labels", "allowed"), LABEL_ROWS)
def test_label_selectors(selector: Any, labels: dict[str, str], allowed: bool) -> None:
    roles = [role(allow={"node_labels": selector, "logins": ["root"]})]
    assert login(roles, labels) is allowed
    assert bool(decide(Subject(identity(), roles), See(node(labels)), ENV)) is allowed


@pytest.mark.parametrize(("selector", "labels", "matches"), LABEL_ROWS)
def test_the_same_selector_denies(selector: Any, labels: dict[str, str], matches: bool) -> None:
    """What would allow denies; a selector that is not understood denies as well."""
    roles = [
        role("wide", allow={"node_labels": STAR, "logins": ["root"]}),
        role("deny", deny={"node_labels": selector}),
    ]
    broken = selector == {"env": "^[$"}
    assert login(roles, labels) is not (matches or broken)
    assert login(roles[::-1], labels) is not (matches or broken)


class TestLogins:
    def test_labels_and_login_must_come_from_one_role(self) -> None:
        labels_only = role("a", allow={"node_labels": STAR})
        login_only = role("b", allow={"logins": ["root"], "node_labels": {"env": "dev"}})
        assert not login([labels_only, login_only], {"env": "prod"})
        assert login([labels_only, login_only], {"env": "dev"})

    def test_a_bare_deny_login_bars_it_everywhere(self) -> None:
        roles = [ACCESS, role("no-root", deny={"logins": ["root"]})]
        assert not login(roles, {"env": "dev"})
        assert login([ACCESS], {"env": "dev"})

    def test_deny_wildcard_login_bars_all(self) -> None:
        assert not login([ACCESS, role("none", deny={"logins": ["*"]})], {})

    def test_wildcard_in_allow_is_no_login(self) -> None:
        assert not login([role(allow={"logins": ["*"], "node_labels": STAR})], {})

    def test_deny_template(self) -> None:
        assert not login([ACCESS, role("d", deny={"logins": ["{{internal.logins}}"]})], {})

    def test_case_matters(self) -> None:
        assert not login([role(allow={"logins": ["Root"], "node_labels": STAR})], {})

    def test_other_namespace_allows_nothing(self) -> None:
        allow = {"logins": ["root"], "node_labels": STAR, "namespaces": ("other",)}
        assert not login([role(allow=allow)], {})

    def test_no_roles_no_access(self) -> None:
        assert not login([], {})

    def test_a05_login_outside_the_certificate(self) -> None:
        roles = [role(allow={"logins": ["root"], "node_labels": STAR})]
        assert not login(roles, {}, logins=("alice",))
        assert not login(roles, {}, logins=("deploy,root",))

    def test_auditor_has_no_login(self) -> None:
        assert not login([AUDITOR], {}, logins=AUDITOR.spec.allow.logins)


@pytest.mark.parametrize(
    ("selector", "labels", "matches"),
    [
        ({"{{external.a}}": "x", "{{external.b}}": "y", "env": "z"}, {"k": "x", "env": "z"}, False),
        ({"{{external.a}}": "x", "{{external.b}}": "y", "env": "z"}, {"k": "y", "env": "z"}, False),
        ({"{{external.a}}": ["x", "y"], "{{external.b}}": "y"}, {"k": "y"}, True),
        ({"{{external.a}}": ["x", "y"], "{{external.b}}": "y"}, {"k": "x"}, False),
        ({"{{external.a}}": "x", "{{external.b}}": "*"}, {"k": "x"}, True),
        ({"{{external.a}}": "x", "k": "y"}, {"k": "x"}, False),
    ],
)
def test_a25_keys_that_traits_make_the_same_must_all_match(
    selector: Any, labels: dict[str, str], matches: bool
) -> None:
    traits = {"logins": ("root",), "a": ("k",), "b": ("k",)}
    selecting = role("a", allow={"node_labels": selector, "logins": ["root"]})
    assert login([selecting], labels, traits=traits) is matches
    refusing = role("d", deny={"node_labels": selector})
    assert login([ACCESS, refusing], labels, traits=traits) is not matches


class TestA23Labels:
    def test_a23_the_command_label_wins_over_the_static_one(self) -> None:
        roles = [ACCESS, role("d", deny={"node_labels": {"env": "prod"}})]
        subject = Subject(identity(), roles)
        assert not decide(subject, See(node({"env": "dev"}, {"env": "prod"})), ENV)
        assert decide(subject, See(node({"env": "prod"}, {"env": "dev"})), ENV)


class TestA24HostilePatterns:
    def test_a24_linear_regex(self) -> None:
        roles = [role(allow={"node_labels": {"x": "^(a+)+$"}, "logins": ["root"]})]

        def ask() -> None:
            assert not login(roles, {"x": "a" * 50_000 + "!"})

        assert_takes_under(0.5, ask)

    @pytest.mark.parametrize("pattern", ["^(?=a)$", "^(a)\\1$", "^" + "x" * 2000 + "$", "^(x{1000}){1000}$"])
    def test_a24_patterns_outside_the_language_fail_closed(self, pattern: str) -> None:
        roles = [ACCESS, role("bad", deny={"node_labels": {"x": pattern}})]
        assert not login(roles, {})


class TestA25Traits:
    def test_a25_no_wildcard_from_a_trait(self) -> None:
        roles = [
            role(allow={"logins": ["{{internal.logins}}"], "node_labels": {"team": "{{external.team}}"}})
        ]
        traits = {"logins": ("root",), "team": ("*",)}
        assert not login(roles, {"team": "blue"}, traits=traits)
        assert not login(roles, {"team": "blue"}, traits={**traits, "team": ("^.*$", "b*")})
        assert login(roles, {"team": "*"}, traits=traits)

    def test_a25_a_trait_is_never_a_template(self) -> None:
        roles = [role(allow={"logins": ["{{external.who}}"], "node_labels": STAR})]
        traits = {"who": ("{{internal.logins}}",), "logins": ("root",)}
        assert not login(roles, {}, traits=traits)

    @pytest.mark.parametrize("values", [(), ("",), ("root\n",), ("*",), (" root",)])
    def test_a25_empty_and_odd_values_grant_nothing(self, values: tuple[str, ...]) -> None:
        assert not login([ACCESS], {}, traits={"logins": values})

    def test_a25_ten_thousand_values(self) -> None:
        traits = {"logins": tuple(f"user{i}" for i in range(10_000))}

        def ask() -> None:
            assert login([ACCESS], {}, name="user9999", traits=traits, logins=("user9999",))

        assert_takes_under(1.0, ask)


class TestA22Restriction:
    def test_a22_only_the_named_resources(self) -> None:
        here = (f"/demo/node/{HOST_ID}",)
        assert login([ACCESS], {}, allowed_resources=here)
        for other in (
            (),
            ("/demo/node/other",),
            (f"/leaf/node/{HOST_ID}",),
            (f"/demo/app/{HOST_ID}",),
            (f"/demo/node/{HOST_ID}/x",),
            ("*",),
        ):
            assert not login([ACCESS], {}, allowed_resources=other)
            subject = Subject(identity(allowed_resources=other), [ACCESS])
            assert not decide(subject, See(node()), ENV)

    def test_a22_rules_shrink_to_those_of_everybody(self) -> None:
        subject = Subject(identity(allowed_resources=(f"/demo/node/{HOST_ID}",)), [EDITOR])
        assert decide(subject, UseRule("node", "list"), ENV)
        assert not decide(subject, UseRule("token", "create"), ENV)


class TestWhoAndWhen:
    def test_hosts_have_no_roles(self) -> None:
        host = Identity(kind=PeerKind.HOST, name=HOST_ID, cluster="demo", expires_at=NOW + 1)
        assert not decide(Subject(host, [ACCESS]), See(node()), ENV)

    @pytest.mark.parametrize("changes", [{"expires_at": NOW}, {"expires_at": 0.0}, {"valid_after": NOW + 31}])
    @pytest.mark.parametrize("target", [See(node()), SshLogin(node(), "root"), UseRule("node", "list")])
    def test_outside_the_certificates_life(self, changes: dict[str, float], target: Any) -> None:
        assert decide(Subject(identity(), [ACCESS]), target, ENV)
        assert not decide(Subject(identity(**changes), [ACCESS]), target, ENV)

    def test_a34_mfa_is_asked_for(self) -> None:
        strict = role("mfa", allow={"logins": ["root"], "node_labels": STAR}, require_session_mfa=True)
        for value in (True, "yes", "session", "hardware_key", "nonsense"):
            options = msgspec.structs.replace(strict.spec.options, require_session_mfa=value)
            spec = msgspec.structs.replace(strict.spec, options=options)
            roles = [ACCESS, msgspec.structs.replace(strict, spec=spec)]
            assert not login(roles, {})
            assert login(roles, {}, mfa_device="d")
        for value in (False, "no", "off"):
            options = msgspec.structs.replace(strict.spec.options, require_session_mfa=value)
            assert login(
                [msgspec.structs.replace(strict, spec=RoleSpec(options=options, allow=strict.spec.allow))], {}
            )

    def test_cluster_wide_mfa(self) -> None:
        preference = AuthPreference(
            metadata=Metadata(name="x"), spec=AuthPreferenceSpec(require_session_mfa=True)
        )
        env = Environment(now=NOW, auth_preference=preference)
        assert not decide(Subject(identity(), [ACCESS]), SshLogin(node(), "root"), env)
        assert decide(Subject(identity(mfa_device="d"), [ACCESS]), SshLogin(node(), "root"), env)

    def test_trusted_device_cannot_be_shown_yet(self) -> None:
        strict = role("d", allow={"logins": ["root"], "node_labels": STAR}, device_trust_mode="required")
        assert not login([strict], {}, mfa_device="d")


def lock(name: str = "l", expires: float | None = None, **target: str) -> Lock:
    end = None if expires is None else datetime.fromtimestamp(expires, UTC)
    return Lock(
        metadata=Metadata(name=name), spec=LockSpec(target=LockTarget(**target), message="held", expires=end)
    )


class TestLocks:
    @pytest.mark.parametrize(
        ("target", "locked"),
        [
            ({"user": "alice"}, True),
            ({"user": "bob"}, False),
            ({"user": "the-impersonator"}, True),
            ({"role": "r"}, True),
            ({"role": "x"}, False),
            ({"login": "root"}, True),
            ({"login": "deploy"}, False),
            ({"server_id": HOST_ID}, True),
            ({"server_id": "proxy-1"}, True),
            ({"server_id": "other"}, False),
            ({"mfa_device": "dev"}, True),
            ({"mfa_device": "x"}, False),
            ({"user": "alice", "login": "deploy"}, False),
            ({"user": "alice", "login": "root", "role": "r"}, True),
            ({}, True),
        ],
    )
    def test_every_set_field_must_match(self, target: dict[str, str], locked: bool) -> None:
        who = identity(mfa_device="dev", impersonator="the-impersonator")
        env = Environment(now=NOW, locks=(lock(**target),), server_id="proxy-1")
        decision = decide(Subject(who, [ACCESS]), SshLogin(node(), "root"), env)
        assert bool(decision) is not locked

    def test_a14_locks_stop_rules_and_sight_too(self) -> None:
        env = Environment(now=NOW, locks=(lock(user="alice"),))
        for target in (See(node()), UseRule("node", "list")):
            decision = decide(Subject(identity(), [ACCESS]), target, env)
            assert not decision
            assert decision.reasons == ("lock l: held",)

    def test_a_lock_runs_out(self) -> None:
        for end, locked in ((NOW, False), (NOW + 1, True)):
            env = Environment(now=NOW, locks=(lock(expires=end, user="alice"),))
            assert bool(decide(Subject(identity(), [ACCESS]), See(node()), env)) is not locked

    def test_strict_mode_refuses_on_a_stale_view(self) -> None:
        strict = role("s", lock="strict")
        env = Environment(now=NOW, locks_stale_s=301)
        assert not decide(Subject(identity(), [ACCESS, strict]), See(node()), env)
        assert decide(Subject(identity(), [ACCESS]), See(node()), env)
        assert decide(
            Subject(identity(), [ACCESS, strict]), See(node()), Environment(now=NOW, locks_stale_s=9)
        )
