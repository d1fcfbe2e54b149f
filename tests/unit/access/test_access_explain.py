"""Explaining: the verdict is the decision's, and what is said to be missing is what is missing."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pkgs.common.access.decide import decide
from pkgs.common.access.explaining.explain import Explanation, Missing, as_if, explain
from pkgs.common.access.types import Environment, See, SshLogin, Subject, Target, UseRule
from pkgs.common.pki.identity import Identity, PeerKind
from pkgs.common.resources.kinds import (
    AuthPreference,
    AuthPreferenceSpec,
    Lock,
    LockSpec,
    LockTarget,
    Node,
    ServerSpec,
)
from pkgs.common.resources.metadata import Metadata
from pkgs.common.resources.presets import preset_roles
from pkgs.common.resources.role import Conditions, Role, RoleOptions, RoleSpec, Rule
from tests.harness.examples import examples

NOW = 1_800_000_000.0
ENV = Environment(now=NOW)
HOST_ID = "11111111-2222-4333-8444-555555555555"
ACCESS, EDITOR, AUDITOR = preset_roles()[:3]
STAR = {"*": "*"}
TRAITS = {"logins": ("root",), "team": ("blue",), "email": ("alice@example.com",)}


def role(name: str, allow: Any = None, deny: Any = None, **options: Any) -> Role:
    spec = RoleSpec(
        options=RoleOptions(**options), allow=Conditions(**(allow or {})), deny=Conditions(**(deny or {}))
    )
    return Role(metadata=Metadata(name=name), spec=spec)


def node(labels: dict[str, str] | None = None) -> Node:
    return Node(metadata=Metadata(name=HOST_ID, labels=labels or {}), spec=ServerSpec(hostname="web1"))


def subject(roles: list[Role], *, mfa: bool = False) -> Subject:
    return Subject(as_if("alice", roles, TRAITS, "demo", ENV, mfa=mfa), roles)


def told(roles: list[Role], target: Target, env: Environment = ENV, *, mfa: bool = False) -> Explanation:
    return explain(subject(roles, mfa=mfa), target, env)


def test_allowed_by_which_role_and_field() -> None:
    found = told([AUDITOR, ACCESS], SshLogin(node(), "root"))
    assert found.allowed
    assert found.decision.reasons == ("role access: allow.logins and allow.node_labels",)
    assert [(f.role, f.effect) for f in found.findings] == [("auditor", "lacks"), ("access", "allows")]
    assert found.missing == ()


def test_labels_but_not_the_login() -> None:
    found = told([ACCESS], SshLogin(node(), "deploy"))
    assert found.missing == (Missing("add", "access", "allow.logins", "deploy"),)
    assert [f.text for f in found.findings] == ["allows the labels but not the login deploy"]


def test_the_login_but_not_the_labels() -> None:
    dev = role("dev", {"logins": ["root"], "node_labels": {"env": ["dev", "test"], "team": "*"}})
    found = told([dev], SshLogin(node({"env": "prod", "team": "a"}), "root"))
    assert found.missing == (Missing("add", "dev", "allow.node_labels", "env=prod"),)
    assert [f.text for f in found.findings] == ["allows the login root but not the labels (env=prod)"]


def test_an_expression() -> None:
    text = 'contains(user.spec.traits["team"], labels["team"])'
    own = role("own", {"logins": ["root"], "node_labels_expression": text})
    assert told([own], SshLogin(node({"team": "blue"}), "root")).allowed
    found = told([own], SshLogin(node({"team": "red"}), "root"))
    assert found.missing == (Missing("add", "own", "allow.node_labels_expression", "true for team=red"),)


def test_every_deny_is_named() -> None:
    labels = role("no-prod", deny={"node_labels": {"env": "prod"}})
    text = 'labels["env"] == "prod"'
    expression = role("nor-this", deny={"node_labels_expression": text})
    login = role("no-root", deny={"logins": ["root"]})
    found = told([ACCESS, labels, expression, login], SshLogin(node({"env": "prod"}), "root"))
    assert set(found.missing) == {
        Missing("remove", "no-prod", "deny.node_labels", "env=prod"),
        Missing("remove", "nor-this", "deny.node_labels_expression", text),
        Missing("remove", "no-root", "deny.logins", "root"),
    }


def test_the_nearest_role_is_the_one_that_is_named_whatever_the_order() -> None:
    near = role("near", {"logins": ["root"], "node_labels": {"env": "prod"}})
    far = role("far", {"logins": ["other"], "node_labels": {"env": "dev"}})
    for roles in ([near, far], [far, near]):
        found = told(roles, SshLogin(node({"env": "prod"}), "deploy"))
        assert found.missing == (Missing("add", "near", "allow.logins", "deploy"),)


def test_a_user_without_any_role_that_helps() -> None:
    found = told([], SshLogin(node({"env": "prod"}), "root"))
    assert {step.field for step in found.missing} == {"allow.logins", "allow.node_labels"}
    assert {step.role for step in found.missing} == {""}


def test_conditions() -> None:
    strict = role("strict", {"logins": ["root"], "node_labels": STAR}, require_session_mfa=True)
    found = told([strict], SshLogin(node(), "root"))
    assert not found.allowed
    assert found.missing == (Missing("meet", "strict", "options", "session MFA required"),)
    found = told([strict], SshLogin(node(), "root"), mfa=True)
    assert found.allowed
    assert found.conditions == ("role strict requires MFA for every session",)
    preference = AuthPreference(
        metadata=Metadata(name="cluster-auth-preference"), spec=AuthPreferenceSpec(require_session_mfa=True)
    )
    env = Environment(now=NOW, auth_preference=preference)
    found = told([ACCESS], SshLogin(node(), "root"), env)
    assert found.conditions == ("the cluster requires MFA for every session",)
    assert found.missing == (Missing("meet", "", "", "session MFA required"),)
    device = role("device", {"logins": ["root"], "node_labels": STAR}, device_trust_mode="required")
    assert told([device], SshLogin(node(), "root")).conditions == ("role device requires a trusted device",)


def test_a_lock_is_named_beside_what_roles_lack() -> None:
    lock = Lock(metadata=Metadata(name="l"), spec=LockSpec(target=LockTarget(user="alice"), message="gone"))
    found = told([ACCESS], SshLogin(node(), "deploy"), Environment(now=NOW, locks=(lock,)))
    assert found.missing == (
        Missing("meet", "", "", "lock l: gone"),
        Missing("add", "access", "allow.logins", "deploy"),
    )


def test_a_login_that_the_certificate_lacks() -> None:
    who = msgspec.structs.replace(as_if("alice", [ACCESS], TRAITS, "demo", ENV), logins=())
    found = explain(Subject(who, [ACCESS]), SshLogin(node(), "root"), ENV)
    assert not found.allowed
    assert found.missing == (Missing("meet", "", "", "login is not among the certificate's principals"),)


def test_roles_that_are_not_understood() -> None:
    broken = role("broken", {"node_labels_expression": "labels"})
    found = told([ACCESS, broken], SshLogin(node(), "root"))
    assert not found.allowed
    assert "role broken: allow.node_labels_expression: at character 1" in found.missing[0].value


def test_a_host_has_no_roles() -> None:
    host = Identity(kind=PeerKind.HOST, name=HOST_ID, cluster="demo", expires_at=NOW + 1)
    found = explain(Subject(host, []), See(node()), ENV)
    assert [step.value for step in found.missing] == ["only users have roles"]


def test_another_namespace() -> None:
    there = role("there", {"logins": ["root"], "node_labels": STAR, "namespaces": ("other",)})
    found = told([there], SshLogin(node(), "root"))
    assert found.missing == (Missing("add", "there", "allow.namespaces", "default"),)


class TestRules:
    def test_allowed(self) -> None:
        found = told([EDITOR], UseRule("role", "update"))
        assert found.allowed
        assert found.findings[0].text.startswith("allows by allow.rules[")

    def test_the_nearest_step(self) -> None:
        reads = role("reads", {"rules": [Rule(resources=["role"], verbs=["read"])]})
        found = told([ACCESS, reads], UseRule("role", "update"))
        assert found.missing == (Missing("add", "reads", "allow.rules", "role update"),)
        assert [f.text for f in found.findings] == [
            "has no rule for role",
            "has rules for role but not the verb update",
        ]

    def test_a_condition(self) -> None:
        where = 'resource.metadata.labels["team"] == "blue"'
        mine = role("mine", {"rules": [Rule(resources=["role"], verbs=["update"], where=where)]})
        blue = msgspec.structs.replace(ACCESS, metadata=Metadata(name="b", labels={"team": "blue"}))
        assert told([mine], UseRule("role", "update", resource=blue)).allowed
        for resource, said in ((ACCESS, "which is false"), (None, "which cannot be answered here")):
            found = told([mine], UseRule("role", "update", resource=resource))
            assert found.missing == (Missing("add", "mine", "allow.rules[0].where", where),)
            assert said in found.findings[0].text

    def test_a_deny(self) -> None:
        never = role("never", deny={"rules": [Rule(resources=["role"], verbs=["*"])]})
        found = told([EDITOR, never], UseRule("role", "update"))
        assert found.missing == (Missing("remove", "never", "deny.rules[0]", "role update"),)

    def test_a_restricted_certificate(self) -> None:
        who = msgspec.structs.replace(as_if("alice", [EDITOR], TRAITS, "demo", ENV), allowed_resources=())
        found = explain(Subject(who, [EDITOR]), UseRule("role", "update"), ENV)
        assert not found.allowed
        assert [step.change for step in found.missing] == ["meet"]


# --- properties

_EXPRESSIONS = st.sampled_from(
    [
        *("", "", 'labels["env"] == "a"', 'contains(user.spec.traits["team"], labels["team"])'),
        *('regexp.match(labels["env"], "a*") || labels["team"] != ""', '!exists(labels["team"])'),
        'contains(email.local(user.spec.traits["team"]), "x")',
    ]
)
_SELECTORS = st.one_of(
    st.just(STAR),
    st.dictionaries(
        st.sampled_from(["env", "team"]), st.sampled_from(["a", "b", "*", ["a", "blue"]]), max_size=2
    ),
)
_WHERE = st.sampled_from(
    [
        *("", 'equals(user.metadata.name, "alice")', 'resource.metadata.name == "access"'),
        *('contains(user.spec.roles, "r0")', '!contains_any(user.spec.traits["team"], set("blue"))'),
    ]
)
_RULES = st.lists(
    st.builds(
        lambda kinds, verbs, where: Rule(resources=kinds, verbs=verbs, where=where),
        st.lists(st.sampled_from(["role", "user", "*"]), min_size=1, max_size=2),
        st.lists(st.sampled_from(["read", "update", "*"]), min_size=1, max_size=2),
        _WHERE,
    ),
    max_size=2,
)


def _side(labels: Any) -> Any:
    return st.fixed_dictionaries(
        {
            "logins": st.lists(st.sampled_from(["root", "deploy", "{{internal.logins}}"]), max_size=2),
            "node_labels": labels,
            "node_labels_expression": _EXPRESSIONS,
            "rules": _RULES,
        }
    )


_DENY = st.one_of(st.just({}), st.just({}), _side(_SELECTORS))
_ROLES = st.lists(st.tuples(_side(_SELECTORS), _DENY, st.booleans()), max_size=4).map(
    lambda parts: [
        role(f"r{n}", allow, deny, require_session_mfa=mfa) for n, (allow, deny, mfa) in enumerate(parts)
    ]
)
_LABELS = st.dictionaries(st.sampled_from(["env", "team"]), st.sampled_from(["a", "b", "blue"]), max_size=2)
_TARGETS = st.one_of(
    st.builds(
        lambda labels, login: SshLogin(node(labels), login), _LABELS, st.sampled_from(["root", "deploy"])
    ),
    st.builds(lambda labels: See(node(labels)), _LABELS),
    st.builds(
        lambda kind, verb, resource: UseRule(kind, verb, resource=resource),
        st.sampled_from(["role", "user", "node"]),
        st.sampled_from(["read", "update", "list"]),
        st.sampled_from([None, ACCESS]),
    ),
)


def _granted(roles: list[Role], steps: tuple[Missing, ...], target: Target) -> list[Role]:
    """The roles after everything that is said to be missing was done."""
    changed = {item.name: item for item in roles}
    for step in steps:
        name = step.role or "new"
        held = changed.get(name) or role(name)
        side = "deny" if step.change == "remove" else "allow"
        conditions = getattr(held.spec, side)
        field = step.field.removeprefix(f"{side}.")
        if step.change == "meet":
            continue
        if field.startswith("rules"):
            assert isinstance(target, UseRule)
            rules = [] if side == "deny" else [Rule(resources=[target.kind], verbs=[target.verb])]
            conditions = msgspec.structs.replace(conditions, rules=[*rules])
        elif field == "node_labels":
            conditions = msgspec.structs.replace(conditions, node_labels={} if side == "deny" else STAR)
        elif field == "node_labels_expression":
            conditions = msgspec.structs.replace(conditions, node_labels_expression="")
            if side == "allow" and not conditions.node_labels:
                conditions = msgspec.structs.replace(conditions, node_labels=STAR)
        else:
            assert field == "logins"
            logins = [] if side == "deny" else [*conditions.logins, step.value]
            conditions = msgspec.structs.replace(conditions, logins=logins)
        changed[name] = msgspec.structs.replace(
            held, spec=msgspec.structs.replace(held.spec, **{side: conditions})
        )
    return list(changed.values())


@given(_ROLES, _TARGETS, st.booleans(), st.randoms(use_true_random=False))
@settings(max_examples=examples(300), deadline=None)
def test_the_verdict_is_the_decision_and_the_steps_lead_to_a_yes(
    roles: list[Role], target: Target, mfa: bool, rnd: Any
) -> None:
    found = told(roles, target, mfa=mfa)
    assert found.allowed == bool(decide(subject(roles, mfa=mfa), target, ENV))
    assert (found.missing == ()) == found.allowed, found
    shuffled = list(roles)
    rnd.shuffle(shuffled)
    assert set(told(shuffled, target, mfa=mfa).missing) == set(found.missing)
    if not found.allowed:
        # A second factor meets the only condition that these roles can have.
        meet = any(step.change == "meet" for step in found.missing)
        assert told(_granted(roles, found.missing, target), target, mfa=mfa or meet).allowed, found


def _naive_labels(selector: dict[str, Any], labels: dict[str, str]) -> bool:
    if selector == STAR:
        return True
    wanted = {key: [value] if isinstance(value, str) else value for key, value in selector.items()}
    return bool(wanted) and all(
        key in labels and ("*" in values or labels[key] in values) for key, values in wanted.items()
    )


def _naive_expression(text: str, labels: dict[str, str], *, deny: bool) -> bool:
    """What each of the texts above means, said in Python."""
    env, team = labels.get("env", ""), labels.get("team", "")
    meanings = {
        'labels["env"] == "a"': env == "a",
        'contains(user.spec.traits["team"], labels["team"])': team == "blue",
        'regexp.match(labels["env"], "a*") || labels["team"] != ""': env.startswith("a") or team != "",
        '!exists(labels["team"])': not team,
        'contains(email.local(user.spec.traits["team"]), "x")': deny,
    }
    return meanings[text]


def _naive(roles: list[Role], labels: dict[str, str], login: str) -> bool:
    def logins(entries: list[str]) -> set[str]:
        return {"root" if entry.startswith("{{") else entry for entry in entries}

    for item in roles:
        deny = item.spec.deny
        if login in logins(deny.logins) or _naive_labels(deny.node_labels, labels):
            return False
        text = deny.node_labels_expression
        if text and _naive_expression(text, labels, deny=True):
            return False
    for item in roles:
        allow = item.spec.allow
        text = allow.node_labels_expression
        if not allow.node_labels and not text:
            continue
        by_labels = not allow.node_labels or _naive_labels(allow.node_labels, labels)
        by_text = not text or _naive_expression(text, labels, deny=False)
        if login in logins(allow.logins) and by_labels and by_text:
            return True
    return False


@given(_ROLES, _LABELS, st.sampled_from(["root", "deploy"]), st.randoms(use_true_random=False))
@settings(max_examples=examples(300), deadline=None)
def test_compiled_and_naive_decisions_agree_in_any_order(
    roles: list[Role], labels: dict[str, str], login: str, rnd: Any
) -> None:
    expected = _naive(roles, labels, login)
    target = SshLogin(node(labels), login)
    assert bool(decide(subject(roles, mfa=True), target, ENV)) is expected
    shuffled = list(roles)
    rnd.shuffle(shuffled)
    assert bool(decide(subject(shuffled, mfa=True), target, ENV)) is expected


@given(_ROLES, _TARGETS, _side(_SELECTORS))
@settings(max_examples=examples(150), deadline=None)
def test_deny_always_wins(roles: list[Role], target: Target, deny: Any) -> None:
    """Another deny never widens; and what a role denies, no other role gives back."""
    before = bool(decide(subject(roles, mfa=True), target, ENV))
    more = [*roles, role("d", deny=deny)]
    assert before or not decide(subject(more, mfa=True), target, ENV)
    everything = role(
        "all",
        {
            "logins": ["root", "deploy"],
            "node_labels": STAR,
            "rules": [Rule(resources=["*"], verbs=["*"])],
        },
    )
    alone = bool(decide(subject([everything, role("d", deny=deny)], mfa=True), target, ENV))
    assert alone or not decide(subject([everything, *more], mfa=True), target, ENV)


@pytest.mark.parametrize("target", [SshLogin(node(), "root"), See(node()), UseRule("role", "read")])
def test_explaining_never_raises(target: Target) -> None:
    broken = role("b", {"rules": [Rule(resources=["role"], verbs=["read"], where="(")]})
    assert not told([broken], target).allowed
