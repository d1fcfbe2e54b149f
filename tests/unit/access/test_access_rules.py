"""Rules on the API, and properties that hold for any set of roles."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pkgs.common.access.decide import decide
from pkgs.common.access.types import Environment, See, Subject, UseRule
from pkgs.common.errors import InputError
from pkgs.common.resources.codec import load_documents
from pkgs.common.resources.role import Role, Rule
from tests.harness.examples import examples
from tests.harness.pace import assert_takes_under
from tests.unit.access.test_access_decide import (
    ACCESS,
    AUDITOR,
    EDITOR,
    ENV,
    HOST_ID,
    NOW,
    STAR,
    identity,
    lock,
    login,
    node,
    role,
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
@settings(max_examples=examples(100))
def test_order_of_roles_never_matters(roles: list[Role], labels: dict[str, str], name: str, rnd: Any) -> None:
    shuffled = list(roles)
    rnd.shuffle(shuffled)
    assert login(roles, labels, name) == login(shuffled, labels, name)


@given(ROLES, DENIES, LABELS, LOGINS)
@settings(max_examples=examples(100))
def test_another_deny_never_widens(roles: list[Role], deny: Any, labels: dict[str, str], name: str) -> None:
    if login([*roles, role("d", deny=deny)], labels, name):
        assert login(roles, labels, name)


@given(ROLES, LABELS, LOGINS)
@settings(max_examples=examples(100))
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
@settings(max_examples=examples(100))
def test_restrictions_only_shrink(roles: list[Role], labels: dict[str, str], name: str, changes: Any) -> None:
    if login(roles, labels, name, **changes):
        assert login(roles, labels, name)


def test_ten_thousand_servers_are_filtered_quickly() -> None:
    """Target: well under 300 ms of the second `tsh ls` may take."""
    nodes = [node({"env": "prod", "n": str(i)}) for i in range(10_000)]
    roles = [ACCESS, role("d", deny={"node_labels": {"n": "^99.*$"}})]
    subject = Subject(identity(), roles)
    env = Environment(now=NOW, locks=(lock(user="bob"),))

    def look() -> None:
        assert sum(bool(decide(subject, See(item), env)) for item in nodes) == 10_000 - 111

    assert_takes_under(0.6, look)


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
@settings(max_examples=examples(300))
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

    def look() -> None:
        assert sum(bool(decide(subject, See(item), ENV)) for item in nodes) == 5_000

    assert_takes_under(0.6, look)
