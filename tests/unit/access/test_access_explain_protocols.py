"""Why, for everything beside servers: the verdict is the decision's, and what is missing leads to a yes."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pkgs.common.access.decide import decide
from pkgs.common.access.explaining.explain import Explanation, Missing, as_if, explain
from pkgs.common.access.explaining.reach import MAX_QUESTIONS, uses
from pkgs.common.access.roleset import roles_of
from pkgs.common.access.types import (
    Access,
    ConnectApp,
    ConnectDatabase,
    EnterCluster,
    Environment,
    KubeObject,
    OpenDesktop,
    See,
    SshLogin,
    Subject,
    UseKube,
    UseRule,
)
from pkgs.common.resources.role import Role, Rule, TimeWindow
from tests.harness.examples import examples
from tests.unit.access.access_kit import (
    ENV,
    EVERY,
    NOW,
    STAR,
    alice,
    app,
    database,
    desktop,
    kube,
    leaf,
    role,
    role_text,
    server,
)

OFFICE = [TimeWindow(days=["mon-fri"], hours="18:00-20:00")]


def told(roles: list[Role], target: Any, env: Environment = ENV, **changes: Any) -> Explanation:
    who = as_if("alice", roles, {}, "demo", env)
    return explain(Subject(msgspec.structs.replace(who, **changes), tuple(roles)), target, env)


def test_a_database_user_that_is_missing() -> None:
    dev = role("dev", {"db_labels": STAR, "db_users": ["app"], "db_names": ["*"]})
    found = told([dev], ConnectDatabase(database(), "root", "orders"))
    assert found.missing == (Missing("add", "dev", "allow.db_users", "root"),)
    assert found.findings[0].text == (
        "allows the labels and the database name orders but not the database user root"
    )
    assert found.decision.reasons == (
        "no role allows this database and this database user and this database name together",
    )


def test_what_the_question_leaves_out_has_to_be_named_first() -> None:
    dev = role("dev", {"db_labels": STAR, "db_users": ["app"]})
    found = told([dev], ConnectDatabase(database(), "", ""))
    assert [str(step) for step in found.missing] == [
        "the question names no database user",
        "the question names no database name",
    ]
    assert found.findings[0].text == (
        "allows the labels but not the database user (none is named) nor the database name (none is named)"
    )


def test_a_cluster_in_which_one_would_be_nobody() -> None:
    viewer = role("viewer", {"kubernetes_labels": STAR})
    (step,) = told([viewer], UseKube(kube())).missing
    assert step.change == "meet" and "allow.kubernetes_groups" in str(step)


def test_what_was_granted_is_named() -> None:
    dev = role("dev", {"db_labels": STAR, "db_users": ["app"], "db_names": ["*"]})
    found = told([dev], ConnectDatabase(database(), "app", "orders"))
    assert found.decision.reasons == ("role dev: allow.db_users and allow.db_names and allow.db_labels",)
    assert found.findings[0].text == (
        "allows the labels and the database user app and the database name orders"
    )


def test_a_kubernetes_object_that_is_missing() -> None:
    viewer = role_text(
        "{allow: {kubernetes_labels: {'*': '*'}, kubernetes_groups: [viewers], kubernetes_resources:"
        " [{kind: pod, namespace: dev, name: '*', verbs: [get]}]}}"
    )
    assert told([viewer], UseKube(kube())).allowed
    found = told([viewer], UseKube(kube(), object=KubeObject("pods", "get", "prod", "web")))
    assert not found.allowed
    assert found.missing == (Missing("meet", "", "", "no role allows get of pods prod/web in this cluster"),)


@pytest.mark.parametrize(
    ("target", "fields"),
    [
        (ConnectApp(app(), aws_role_arn="arn:1"), {"allow.app_labels", "allow.aws_role_arns"}),
        (OpenDesktop(desktop(), "jdoe"), {"allow.windows_desktop_labels", "allow.windows_desktop_logins"}),
        (EnterCluster(leaf({"a": "b"})), {"allow.cluster_labels"}),
        (See(database()), {"allow.db_labels"}),
    ],
)
def test_somebody_without_roles(target: Any, fields: set[str]) -> None:
    assert {step.field for step in told([], target).missing} == fields


def test_hours_and_networks_are_conditions_of_the_role() -> None:
    office = role(
        "office", {"node_labels": STAR, "logins": ["root"], "when": OFFICE, "source": ["10.9.0.0/16"]}
    )
    found = told([office], SshLogin(server(), "root"))
    assert not found.allowed
    assert found.missing == (
        Missing("meet", "office", "allow.when", "mon-fri 18:00-20:00 UTC"),
        Missing("meet", "office", "allow.from", "10.9.0.0/16"),
    )
    assert found.findings[0].text == "counts only mon-fri 18:00-20:00 UTC and counts only from 10.9.0.0/16"
    later = Environment(now=NOW + 11 * 3600, source_addr="10.9.1.1")
    assert told([office], SshLogin(server(), "root"), later).allowed
    rules = role("rules", {"rules": [Rule(resources=["role"], verbs=["read"])], "when": OFFICE})
    found = told([rules], UseRule("role", "read"))
    assert found.missing == (Missing("meet", "rules", "allow.when", "mon-fri 18:00-20:00 UTC"),)


def test_an_open_leaf_needs_nothing() -> None:
    found = told([], EnterCluster(leaf()))
    assert found.allowed
    assert found.missing == ()


# --- properties

_LABELS = st.dictionaries(st.sampled_from(["env", "team"]), st.sampled_from(["a", "b"]), max_size=2)
_SELECTOR = st.one_of(
    st.just(STAR), st.just({}), st.dictionaries(
        st.sampled_from(["env", "team"]), st.sampled_from(["a", "b", "*", ["a", "b"]]), max_size=2
    ),
)  # fmt: skip
_USERS = st.lists(st.sampled_from(["app", "root", "*"]), max_size=2)


def _side(*, circumstances: bool) -> Any:
    fields: dict[str, Any] = {
        "db_labels": _SELECTOR,
        "db_users": _USERS,
        "db_names": _USERS,
        "windows_desktop_labels": _SELECTOR,
        "windows_desktop_logins": _USERS,
        "app_labels": _SELECTOR,
        "azure_identities": _USERS,
        "cluster_labels": _SELECTOR,
    }
    if circumstances:
        fields["when"] = st.sampled_from([[], [], OFFICE])
        fields["source"] = st.sampled_from([[], [], ["10.0.0.0/8"], ["192.0.2.0/24"]])
    return st.fixed_dictionaries(fields)


_ROLES = st.lists(
    st.tuples(_side(circumstances=True), st.one_of(st.just({}), _side(circumstances=True)), st.booleans()),
    max_size=4,
).map(
    lambda parts: [
        role(f"r{n}", allow, deny, require_session_mfa=mfa) for n, (allow, deny, mfa) in enumerate(parts)
    ]
)
_TARGETS: Any = _LABELS.flatmap(
    lambda labels: st.sampled_from(
        [
            ConnectDatabase(database(labels), "app", "root"),
            ConnectDatabase(database(labels, "mysql"), "root"),
            OpenDesktop(desktop(labels), "app"),
            ConnectApp(app(labels), azure_identity="APP"),
            ConnectApp(app(labels)),
            EnterCluster(leaf(labels)),
            See(app(labels)),
        ]
    )
)


def _met(roles: list[Role], steps: tuple[Missing, ...]) -> list[Role]:
    """The roles after everything that is said to be missing was done."""
    changed = {item.name: item for item in roles}
    for step in steps:
        held = changed.get(step.role or "new") or role("new")
        side, _, field = step.field.partition(".")
        if side not in ("allow", "deny"):
            continue
        conditions = getattr(held.spec, side)
        field = {"from": "source"}.get(field, field)
        old = getattr(conditions, field)
        new: Any = [] if isinstance(old, list) else {}
        if step.change == "add":
            new = [*old, step.value] if isinstance(old, list) else STAR
        conditions = msgspec.structs.replace(conditions, **{field: new})
        spec = msgspec.structs.replace(held.spec, **{side: conditions})
        changed[held.name] = msgspec.structs.replace(held, spec=spec)
    return list(changed.values())


@pytest.mark.fuzz
@given(_ROLES, _TARGETS, st.randoms(use_true_random=False))
@settings(max_examples=examples(100), deadline=None)
def test_the_verdict_is_the_decision_and_the_steps_lead_to_a_yes(
    roles: list[Role], target: Access, rnd: Any
) -> None:
    subject = Subject(as_if("alice", roles, {}, "demo", ENV), tuple(roles))
    found = explain(subject, target, ENV)
    assert found.allowed == bool(decide(subject, target, ENV))
    assert (found.missing == ()) == found.allowed, found
    shuffled = list(roles)
    rnd.shuffle(shuffled)
    assert set(told(shuffled, target).missing) == set(found.missing)
    assert told(_met(roles, found.missing), target, mfa_device="m").allowed, found


@given(_ROLES, _LABELS)
@settings(max_examples=examples(150), deadline=None)
def test_what_is_worth_asking_holds_everything_that_is_allowed(
    roles: list[Role], labels: dict[str, str]
) -> None:
    """Whoever is allowed anything on a resource is allowed something that `uses` asks about."""
    subject = Subject(alice(mfa_device="m"), tuple(roles))
    for resource, some in (
        (database(labels), [ConnectDatabase(database(labels), u, n) for u in "xy" for n in "xy"]),
        (desktop(labels), [OpenDesktop(desktop(labels), login) for login in ("app", "root")]),
        (app(labels), [ConnectApp(app(labels))]),
    ):
        asked = [target for _, target in uses(subject.identity, roles_of(subject), resource, ENV)]
        assert len(asked) <= MAX_QUESTIONS
        if any(decide(subject, target, ENV) for target in some):
            assert any(decide(subject, target, ENV) for target in asked)


@pytest.mark.parametrize("kind", sorted(EVERY))
def test_explaining_never_raises(kind: str) -> None:
    broken = role("b", {"rules": [Rule(resources=["role"], verbs=["read"], where="(")]})
    assert not told([broken], See(EVERY[kind])).allowed
