"""The decision: tables, and properties that must hold for any set of roles."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pkgs.common.access.decide import decide
from pkgs.common.access.types import Environment, See, SshLogin, Subject, UseRule
from pkgs.common.errors import InputError
from pkgs.common.pki.identity import Identity, PeerKind
from pkgs.common.resources.codec import load_documents
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
from pkgs.common.resources.role import Conditions, Role, RoleOptions, RoleSpec, Rule

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


class TestA23Labels:
    def test_a23_the_command_label_wins_over_the_static_one(self) -> None:
        roles = [ACCESS, role("d", deny={"node_labels": {"env": "prod"}})]
        subject = Subject(identity(), roles)
        assert not decide(subject, See(node({"env": "dev"}, {"env": "prod"})), ENV)
        assert decide(subject, See(node({"env": "prod"}, {"env": "dev"})), ENV)


class TestA24HostilePatterns:
    def test_a24_linear_regex(self) -> None:
        roles = [role(allow={"node_labels": {"x": "^(a+)+$"}, "logins": ["root"]})]
        begin = time.process_time()
        assert not login(roles, {"x": "a" * 50_000 + "!"})
        assert time.process_time() - begin < 0.5

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
        begin = time.process_time()
        assert login([ACCESS], {}, name="user9999", traits=traits, logins=("user9999",))
        assert time.process_time() - begin < 1.0


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


class TestRules:
    @pytest.mark.parametrize(
        ("resources", "verbs", "kind", "verb", "allowed"),
        [
            (["role"], ["read"], "role", "read", True),
            (["role"], ["read"], "role", "readnosecrets", True),
            (["role"], ["readnosecrets"], "role", "read", False),
            (["role"], ["list"], "role", "read", False),
            (["role"], ["*"], "role", "delete", True),
            (["*"], ["read"], "token", "read", True),
            (["*"], ["*"], "token", "create", True),
            (["roles"], ["read"], "role", "read", True),
            (["role"], ["read"], "user", "read", False),
            ([], ["read"], "role", "read", False),
            (["role"], [], "role", "read", False),
            (["role"], ["write"], "role", "read", False),
        ],
    )
    def test_allow_and_deny(
        self, resources: list[str], verbs: list[str], kind: str, verb: str, allowed: bool
    ) -> None:
        rule = {"rules": [Rule(resources=resources, verbs=verbs)]}
        subject = Subject(identity(), [role(allow=rule)])
        assert bool(decide(subject, UseRule(kind, verb), ENV)) is allowed
        wide = role("w", allow={"rules": [Rule(resources=["*"], verbs=["*"])]})
        both = Subject(identity(), [wide, role("d", deny=rule)])
        understood = bool(resources and verbs) and "write" not in verbs
        assert bool(decide(both, UseRule(kind, verb), ENV)) is (understood and not allowed)

    @pytest.mark.parametrize("kind", ["node", "proxy", "cluster_name", "cert_authority"])
    def test_everybody_may_list_the_basics(self, kind: str) -> None:
        assert decide(Subject(identity(), []), UseRule(kind, "list"), ENV)
        assert not decide(Subject(identity(), []), UseRule(kind, "create"), ENV)

    def test_certificate_authorities_without_secrets_only(self) -> None:
        assert not decide(Subject(identity(), []), UseRule("cert_authority", "read"), ENV)
        assert decide(Subject(identity(), []), UseRule("cert_authority", "readnosecrets"), ENV)

    def test_presets(self) -> None:
        for preset, kind, verb, allowed in (
            (EDITOR, "user", "create", True),
            (EDITOR, "role", "update", True),
            (EDITOR, "session", "read", False),
            (EDITOR, "event", "list", False),
            (AUDITOR, "session", "read", True),
            (AUDITOR, "event", "list", True),
            (AUDITOR, "user", "read", False),
            (ACCESS, "event", "list", True),
            (ACCESS, "user", "list", False),
        ):
            assert bool(decide(Subject(identity(), [preset]), UseRule(kind, verb), ENV)) is allowed

    def test_own_sessions(self) -> None:
        subject = Subject(identity(), [ACCESS])
        assert decide(subject, UseRule("session", "read", participants=("bob", "alice")), ENV)
        assert decide(subject, UseRule("session", "read", owner="alice"), ENV)
        assert not decide(subject, UseRule("session", "read", participants=("alice2",)), ENV)
        assert not decide(subject, UseRule("session", "read"), ENV)

    @pytest.mark.parametrize(
        "rule",
        [
            Rule(resources=["role"], verbs=["read"], where='equals(user.metadata.nam, "alice")'),
            Rule(
                resources=["role"], verbs=["read"], where="contains(session.participants, user.metadata.name)"
            ),
            Rule(resources=["role"], verbs=["read"], where="can_view()"),
            Rule(resources=["role"], verbs=["read"], actions=['mail("x")']),
            Rule(resources=["role"], verbs=["read"], actions=['log("loud", "x")']),
            Rule(resources=["role"], verbs=["read"], actions=['log("info", nobody)']),
        ],
    )
    def test_conditions_that_are_not_understood_fail_closed(self, rule: Rule) -> None:
        for side in ("allow", "deny"):
            subject = Subject(identity(), [EDITOR, role(**{side: {"rules": [rule]}})])
            decision = decide(subject, UseRule("role", "read"), ENV)
            assert not decision
            assert f"{side}.rules[0]." in decision.reasons[0]
            assert "at character" in decision.reasons[0]

    @pytest.mark.parametrize("text", ["labels", 'labels["env"]', 'lables["env"] == "x"', "(", 'name == "x"'])
    def test_expressions_that_are_not_understood_fail_closed(self, text: str) -> None:
        for side in ("allow", "deny"):
            bad = role(**{side: {"node_labels_expression": text}})
            assert not login([ACCESS, bad], {})


# --- properties

LABELS = st.dictionaries(st.sampled_from(["env", "team"]), st.sampled_from(["a", "b"]), max_size=2)
SELECTORS = st.one_of(
    st.just(STAR),
    st.dictionaries(
        st.sampled_from(["env", "team"]), st.sampled_from(["a", "b", "*", ["a", "b"]]), max_size=2
    ),
)
CONDITIONS = st.fixed_dictionaries(
    {
        "logins": st.lists(st.sampled_from(["root", "deploy", "{{internal.logins}}"]), max_size=2),
        "node_labels": SELECTORS,
    }
)
DENIES = st.one_of(st.just({}), CONDITIONS)
ROLES = st.lists(st.builds(lambda allow, deny: role("r", allow, deny), CONDITIONS, DENIES), max_size=4)
LOGINS = st.sampled_from(["root", "deploy", "alice"])


@given(ROLES, LABELS, LOGINS, st.randoms(use_true_random=False))
@settings(max_examples=100)
def test_order_of_roles_never_matters(roles: list[Role], labels: dict[str, str], name: str, rnd: Any) -> None:
    shuffled = list(roles)
    rnd.shuffle(shuffled)
    assert login(roles, labels, name) == login(shuffled, labels, name)


@given(ROLES, DENIES, LABELS, LOGINS)
@settings(max_examples=100)
def test_another_deny_never_widens(roles: list[Role], deny: Any, labels: dict[str, str], name: str) -> None:
    if login([*roles, role("d", deny=deny)], labels, name):
        assert login(roles, labels, name)


@given(ROLES, LABELS, LOGINS)
@settings(max_examples=100)
def test_deny_wins_over_everything(roles: list[Role], labels: dict[str, str], name: str) -> None:
    wide = role("w", {"logins": ["root", "deploy", "alice"], "node_labels": STAR})
    assert not login([*roles, wide, role("d", deny={"logins": [name]})], labels, name)
    assert not login([role("d", deny={"node_labels": STAR}), wide, *roles], labels, name)


@given(
    ROLES,
    LABELS,
    LOGINS,
    st.fixed_dictionaries(
        {},
        optional={
            "source_addr": st.sampled_from(["10.0.0.5", "10.0.0.6"]),
            "allowed_resources": st.sampled_from([(), (f"/demo/node/{HOST_ID}",), ("/demo/node/x",)]),
            "logins": st.sampled_from([(), ("root",), ("deploy",)]),
            "expires_at": st.sampled_from([NOW - 1, NOW + 1]),
        },
    ),
)
@settings(max_examples=100)
def test_restrictions_only_shrink(roles: list[Role], labels: dict[str, str], name: str, changes: Any) -> None:
    if login(roles, labels, name, **changes):
        assert login(roles, labels, name)


def test_ten_thousand_servers_are_filtered_quickly() -> None:
    """Target: well under 300 ms of the second `tsh ls` may take."""
    nodes = [node({"env": "prod", "n": str(i)}) for i in range(10_000)]
    roles = [ACCESS, role("d", deny={"node_labels": {"n": "^99.*$"}})]
    subject = Subject(identity(), roles)
    env = Environment(now=NOW, locks=(lock(user="bob"),))
    begin = time.process_time()
    seen = sum(bool(decide(subject, See(item), env)) for item in nodes)
    assert seen == 10_000 - 111
    assert time.process_time() - begin < 0.6


def test_compiled_roles_are_remembered_shared_and_bounded() -> None:
    from pkgs.common.access import roleset

    who, roles = identity(), [ACCESS]
    assert roleset.role_set(who, roles) is roleset.role_set(who, roles)
    assert roleset.role_set(identity(), roles) is roleset.role_set(identity(), roles)
    assert roleset.role_set(identity(traits={"team": ("x",)}), roles) is not roleset.role_set(who, roles)
    for n in range(600):
        roleset.role_set(identity(traits={"team": (str(n),)}), roles)
    assert len(roleset._by_identity) <= 512
    assert len(roleset._by_content) <= 512


def test_field_documentation_role_decides() -> None:
    text = """
kind: role
version: v5
metadata: {name: dev}
spec:
  allow:
    logins: ['{{internal.logins}}', '{{email.local(external.email)}}']
    node_labels: {env: [dev, 'stag*']}
  deny:
    node_labels: {vault: 'yes'}
"""
    (loaded,) = load_documents(text)
    assert isinstance(loaded, Role)
    traits = {"logins": ("root",), "email": ("alice@example.com",)}
    assert login([loaded], {"env": "staging"}, name="alice", traits=traits)
    assert not login([loaded], {"env": "staging", "vault": "yes"}, traits=traits)


@given(st.text(alphabet="ab*^$.\n", max_size=6), st.text(alphabet="ab*^$.\n", max_size=6))
@settings(max_examples=300)
def test_selectors_of_labels_agree_with_the_pattern_they_stand_for(pattern: str, value: str) -> None:
    """The short ways for plain values and prefixes mean what the regular expression means."""
    from pkgs.common.access.matching.labels import compile_selector
    from pkgs.common.access.matching.patterns import compile_pattern

    try:
        expected = pattern == "*" or bool(compile_pattern(pattern).search(value))
    except InputError:
        return
    assert compile_selector({"k": pattern}, {}).matches({"k": value}) is expected


def test_ten_thousand_servers_are_filtered_quickly_by_expression() -> None:
    nodes = [node({"env": "prod", "team": "blue" if i % 2 else "red"}) for i in range(10_000)]
    text = 'labels["env"] == "prod" && contains(user.spec.traits["team"], labels["team"])'
    roles = [
        role(f"r{n}", allow={"node_labels_expression": f'{text} || labels["n"] == "{n}"'}) for n in range(5)
    ]
    roles.append(
        role("d", deny={"node_labels_expression": 'regexp.match(labels["env"], "^(secret|vault)$")'})
    )
    subject = Subject(identity(), roles)
    begin = time.process_time()
    assert sum(bool(decide(subject, See(item), ENV)) for item in nodes) == 5_000
    assert time.process_time() - begin < 0.6
