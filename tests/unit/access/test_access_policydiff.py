"""What changes for whom: the signs are those of `decide`, nothing is told without a difference, and what is
applied is no difference any more."""

# Tables, a change a line.
# ruff: noqa: E501

from __future__ import annotations

from dataclasses import replace
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pkgs.common.access.decide import decide
from pkgs.common.access.policydiff import limits
from pkgs.common.access.policydiff.compare import EVERY_VERB, KINDS, Comparison, Difference, applied
from pkgs.common.access.policydiff.summary import summarised
from pkgs.common.access.policytests.reading import Place, Placed
from pkgs.common.access.policytests.world import World, world_of
from pkgs.common.access.types import Environment, UseRule
from pkgs.common.errors import InputError
from pkgs.common.resources.codec import load_documents
from pkgs.common.resources.kinds import Lock, LockSpec, LockTarget, Resource, User, UserSpec
from pkgs.common.resources.metadata import Metadata
from pkgs.common.resources.role import Role
from tests.harness.examples import examples
from tests.unit.access.access_kit import EVERY, NOW, STAR, role, server

ENV = Environment(now=NOW)
OWN = "contains(session.participants, user.metadata.name)"


def user(name: str, *roles: str, **traits: list[str]) -> User:
    return User(metadata=Metadata(name=name), spec=UserSpec(roles=list(roles), traits=traits))


def world(*documents: Resource) -> World:
    return world_of("w", [Placed(one, Place("w")) for one in (*EVERY.values(), *documents)])


def differing(before: World, *documents: Resource, env: Environment = ENV) -> list[Difference]:
    comparison = Comparison(before, applied(before, documents)[0], env)
    return list(comparison.differences(comparison.affected()))


def told(before: World, *documents: Resource) -> list[str]:
    return [str(change) for change in summarised(differing(before, *documents))]


def rules(*found: tuple[list[str], list[str], str]) -> list[dict[str, Any]]:
    return [{"resources": kinds, "verbs": verbs, "where": where} for kinds, verbs, where in found]


def made(allow: Any = None, deny: Any = None, **options: Any) -> Role:
    """The role `r`, fields as a document has them."""
    spec = {"allow": allow or {}, "deny": deny or {}, "options": options}
    plain = {"kind": "role", "metadata": {"name": "r"}, "spec": spec}
    return msgspec.convert(plain, Role)


ALICE = user("alice", "r", logins=["alice"])
SSH = {"logins": ["root"], "node_labels": STAR}
_EVERY_OBJECT = {"kind": "*", "namespace": "*", "name": "*", "verbs": ["*"]}
KUBE = {"kubernetes_labels": STAR, "kubernetes_groups": ["a"], "kubernetes_resources": [_EVERY_OBJECT]}
DB = {"db_labels": STAR, "db_users": ["app"], "db_names": ["x"]}
BY_DB = "role r: allow.db_users and allow.db_names and allow.db_labels"
BY_SSH = "role r: allow.logins and allow.node_labels"


@pytest.mark.parametrize(
    ("before", "after", "expected"),
    [
        (made(), made(SSH), [f"+ alice ssh root@web1 ({BY_SSH})"]),
        (
            made(SSH),
            made(SSH, {"logins": ["root"]}),
            [
                f"- alice ssh root@web1 (was {BY_SSH}; now login is not among the certificate's principals)",
            ],
        ),
        (
            made(SSH),
            made(SSH, require_session_mfa=True),
            [f"~ alice ssh root@web1 (was {BY_SSH}; now {BY_SSH}, with MFA)"],
        ),
        (
            made(SSH, require_session_mfa=True),
            made(SSH, require_session_mfa=True, device_trust_mode="required"),
            [f"~ alice ssh root@web1 (was {BY_SSH}, with MFA; now {BY_SSH}, with MFA, from a trusted device)"],
        ),
        (
            made({"db_labels": STAR, "db_users": ["*"], "db_names": ["app"]}),
            made({"db_labels": STAR, "db_users": ["*"], "db_names": ["app"]}, {"db_users": ["admin"]}),
            [
                "- alice db admin@orders/app (was role r: allow.db_users and allow.db_names and allow.db_labels;"
                " now role r: deny.db_users)",
            ],
        ),
        (
            made({"db_labels": STAR, "db_roles": ["a"], "db_names": ["x"]}, create_db_user_mode="keep"),
            made({"db_labels": STAR, "db_roles": ["a", "b"], "db_names": ["x"]}, create_db_user_mode="keep"),
            [
                "~ alice db alice@orders/x (was role r: allow.db_names and allow.db_labels,"
                " create_db_user_mode: keep, db_roles: a; now role r: allow.db_names and allow.db_labels,"
                " create_db_user_mode: keep, db_roles: a, b)",
            ],
        ),
        (
            made({**DB, "db": {"read_only": True}}),
            made({**DB, "db": {"mask": [{"column": "email"}], "rows_max": 5}}),
            [
                f"~ alice db app@orders/x (was {BY_DB}, db: read_only; now {BY_DB}, db: mask *.email, rows_max 5)"
            ],
        ),
        (made(), made({"app_labels": STAR}), ["+ alice app wiki (role r: allow.app_labels)"]),
        (
            made({"app_labels": STAR}),
            made({"app_labels": STAR, "aws_role_arns": ["arn:x"], "mcp": {"tools": ["read_*"]}}),
            [
                "+ alice app wiki aws-role=arn:x (role r: allow.aws_role_arns and allow.app_labels)",
                "+ alice app wiki mcp-tool=read_* (role r: allow.mcp.tools and allow.app_labels)",
            ],
        ),
        (
            made({"kubernetes_labels": STAR, "kubernetes_groups": ["a"]}),
            made(
                {
                    "kubernetes_labels": STAR,
                    "kubernetes_groups": ["a", "b"],
                    "kubernetes_resources": [{"kind": "pod", "namespace": "x", "name": "*", "verbs": ["get"]}],
                }
            ),
            [
                "+ alice kube prod group=b (role r: allow.kubernetes_labels)",
                "+ alice kube prod get pods x/* (role r: allow.kubernetes_labels; role r: allow.kubernetes_resources[0])",
            ],
        ),
        (
            made(KUBE),
            made(
                KUBE,
                {"kubernetes_resources": [{"kind": "pod", "namespace": "x", "name": "*"}]},
            ),
            [
                "- alice kube prod * pods x/* (was role r: allow.kubernetes_labels;"
                " role r: allow.kubernetes_resources[0]; now role r: deny.kubernetes_resources[0])",
            ],
        ),
        (
            made(),
            made({"windows_desktop_labels": STAR, "windows_desktop_logins": ["Ada"]}),
            ["+ alice desktop Ada@win1 (role r: allow.windows_desktop_logins and allow.windows_desktop_labels)"],
        ),
        (made(), made({"cluster_labels": STAR}), ["+ alice cluster leaf (role r: allow.cluster_labels)"]),
        (
            made(),
            made({"rules": rules((["role", "user"], ["read", "list"], ""), (["token"], ["*"], ""))}),
            [
                "+ alice resource role,user list,read (role r: allow.rules)",
                "+ alice resource token * (role r: allow.rules)",
            ],
        ),
        (
            made({"rules": rules((["role"], ["update"], 'name == "a"'))}),
            made({"rules": rules((["role"], ["update"], 'name == "b"'))}),
            [
                '~ alice resource role update (was role r: allow.rules, some objects, allow where name == "a";'
                ' now role r: allow.rules, some objects, allow where name == "b")',
            ],
        ),
        (
            made(),
            made({"rules": rules((["session"], ["read"], OWN))}),
            ["+ alice resource session read (own sessions) (role r: allow.rules)"],
        ),
        (
            made({"rules": rules((["session"], ["read"], OWN))}),
            made({"rules": rules((["session"], ["read"], ""))}),
            [
                "+ alice resource session read (role r: allow.rules)",
            ],
        ),
    ],
)  # fmt: skip
def test_what_changes_is_told_with_its_reason(before: Role, after: Role, expected: list[str]) -> None:
    assert told(world(before, ALICE), after) == expected
    assert told(world(after, ALICE), after) == []


def test_users_who_come_change_or_cannot_log_in() -> None:
    base = world(made(SSH), ALICE, user("bob", "gone"))
    assert [line for line in told(base, user("eve", "r")) if " ssh " in line] == [
        f"+ eve ssh root@web1 ({BY_SSH})"
    ]
    lost = [line for line in told(base, user("alice")) if " ssh " in line]
    assert lost == [
        f"- alice ssh root@web1 (was {BY_SSH}; now login is not among the certificate's principals)"
    ]
    assert any(line.startswith("+ bob ssh root@web1") for line in told(base, role("gone", SSH)))
    missing = told(world(made(SSH), user("alice", "r")), user("alice", "r", "nowhere"))
    assert any("now there is no role 'nowhere'" in line for line in missing)


def access_list(*grants: str) -> list[Resource]:
    return load_documents(
        "{kind: access_list, metadata: {name: team}, spec: {title: Team, owners: [{name: owner}],"
        f" grants: {{roles: [{', '.join(grants)}]}}, audit: {{recurrence: {{frequency: 6, day_of_month: 1}}}}}}}}"
    )


def test_access_lists_give_roles_too() -> None:
    member = load_documents(
        "{kind: access_list_member, metadata: {name: alice}, spec: {access_list: team, name: alice}}"
    )

    def ssh(before: World, *documents: Resource) -> str:
        return next(line for line in told(before, *documents) if " ssh " in line)

    base = world(made(SSH), role("idle"), user("alice", "idle"), *access_list("r"))
    assert ssh(base, *member) == f"+ alice ssh root@web1 ({BY_SSH})"
    joined, _ = applied(base, member)
    assert ssh(joined, made()).startswith("- alice ssh root@web1")
    assert ssh(joined, *access_list("idle")).startswith("- alice ssh root@web1")
    # A list that would give what does not exist gives nothing.
    assert ssh(joined, *access_list("r", "nowhere")).startswith("- alice ssh root@web1")


def test_resources_that_nothing_tells_apart_are_one_line() -> None:
    def named(number: int, env: str) -> Resource:
        meta = Metadata(name=f"id-{number}", labels={"env": env})
        spec = msgspec.structs.replace(server().spec, hostname=f"web{number}")
        return msgspec.structs.replace(server(), metadata=meta, spec=spec)

    servers = [named(number, "dev" if number % 2 else "prod") for number in range(10)]
    lock = Lock(metadata=Metadata(name="l"), spec=LockSpec(target=LockTarget(server_id="id-4")))
    found = summarised(differing(world(made(), ALICE, *servers, lock), made(SSH)))
    assert [(change.action, change.count) for change in found] == [("ssh root@web1 and 9 more", 10)]
    assert set(found[0].names) == {"web1", *(f"web{number}" for number in range(10) if number != 4)}


def test_other_documents_are_left_out() -> None:
    base = world(made(SSH), ALICE)
    after, left_out = applied(base, [server(), made(SSH)])
    assert [document.kind for document in left_out] == ["node"]
    assert (after.roles, after.people, after.things) == (base.roles, base.people, base.things)


def test_hours_and_networks() -> None:
    hours = made({**SSH, "when": [{"hours": "00:00-01:00"}]})
    comparison = Comparison(world(made(SSH), ALICE), world(hours, ALICE), ENV)
    assert [(one.user, one.role) for one in comparison.circumstances(comparison.affected())] == [
        ("alice", "r")
    ]
    later = replace(ENV, now=NOW - 7.5 * 3600)
    assert differing(world(made(SSH), ALICE), hours) and not differing(
        world(made(SSH), ALICE), hours, env=later
    )


def test_bounds(monkeypatch: pytest.MonkeyPatch) -> None:
    base = world(made(), ALICE)
    many = made({"app_labels": STAR, "aws_role_arns": ["a", "b", "c"]})
    monkeypatch.setattr(limits, "MAX_QUESTIONS", 2)
    comparison = Comparison(base, applied(base, [many])[0], ENV)
    assert len(list(comparison.differences(["alice"]))) == 2
    assert list(comparison.notes) == [
        "alice: app: the roles name more than 2 principals; the rest is not compared"
    ]
    monkeypatch.setattr(limits, "MAX_DIFFERENCES", 1)
    with pytest.raises(InputError, match="more than 1 differences"):
        told(base, many)


def test_only_the_kinds_that_are_asked_for() -> None:
    base = world(made(), ALICE)
    everything = made({**SSH, "app_labels": STAR, "rules": rules((["role"], ["read"], ""))})
    comparison = Comparison(base, applied(base, [everything])[0], ENV)
    assert {one.item.word for one in comparison.differences(["alice"], ["app"])} == {"app"}
    assert {one.item.word for one in comparison.differences(["alice"], ["resource"])} == {"resource"}
    assert {one.item.word for one in comparison.differences(["alice"], KINDS)} == {"ssh", "app", "resource"}


# --- the laws

_SELECTORS = st.sampled_from([{}, STAR, {"a": "b"}, {"a": ["c", "*"]}, {"a": "{{external.team}}"}])
_LIST = st.lists(st.sampled_from(["root", "x", "*", "{{internal.logins}}", "y"]), max_size=3, unique=True)
_SAFE = st.lists(st.sampled_from(["root", "x", "{{internal.logins}}", "y"]), max_size=3, unique=True)
_RULES = st.lists(
    st.fixed_dictionaries(
        {
            "resources": st.lists(st.sampled_from(["role", "session", "*"]), min_size=1, max_size=2),
            "verbs": st.lists(st.sampled_from(["read", "list", "*"]), min_size=1, max_size=2),
            "where": st.sampled_from(["", "", OWN]),
        }
    ),
    max_size=2,
)
_OBJECTS = st.lists(
    st.fixed_dictionaries(
        {
            "kind": st.sampled_from(["pod", "*"]),
            "namespace": st.sampled_from(["*", "x"]),
            "name": st.sampled_from(["*", "web-*"]),
            "verbs": st.lists(st.sampled_from(["get", "*"]), min_size=1, max_size=1),
        }
    ),
    max_size=2,
)
_SIDE = st.fixed_dictionaries(
    {},
    optional={
        **dict.fromkeys(
            ("node_labels", "db_labels", "app_labels", "kubernetes_labels", "cluster_labels"), _SELECTORS
        ),
        "logins": _SAFE,
        "db_users": _LIST,
        "db_names": _LIST,
        "kubernetes_groups": _SAFE,
        "kubernetes_resources": _OBJECTS,
        "rules": _RULES.filter(lambda found: all(r["where"] != OWN or r["resources"] == ["session"] for r in found)),
    },
)  # fmt: skip
_ROLE = st.builds(
    lambda allow, deny, mfa, device: made(allow, deny, require_session_mfa=mfa, device_trust_mode=device),
    _SIDE,
    st.just({}) | _SIDE,
    st.booleans(),
    st.sampled_from(["", "required"]),
)
_ENTRIES = user("alice", "r", logins=["ada"], team=["b"])


def _may(world: World, difference: Difference) -> bool:
    """Asked anew, with whatever could be verified."""
    person = world.people.get(difference.user)
    assert person is not None
    target = difference.item.target
    env = replace(ENV, locks=world.locks, auth_preference=world.auth_preference)
    if isinstance(target, UseRule) and not target.knows_session:
        targets = [target, replace(target, any_object=True)]
    else:
        targets = [target]  # type: ignore[list-item]
    subject = world.subject(replace(person, mfa=True, device=True), env)
    return any(bool(decide(subject, one, env)) for one in targets)


@pytest.mark.fuzz
@settings(max_examples=examples(60))
@given(_ROLE, _ROLE)
def test_the_laws_of_comparing(old: Role, new: Role) -> None:
    before = world(old, _ENTRIES)
    after, _ = applied(before, [new])
    found = differing(before, new)
    for difference in found:
        expected = {"+": (False, True), "-": (True, False), "~": (True, True)}[difference.sign]
        assert (_may(before, difference), _may(after, difference)) == expected
    # What is applied is no difference any more, and the way back is the way there turned round.
    assert not differing(after, new) and not differing(before, old)
    turned = {"+": "-", "-": "+", "~": "~"}
    back = differing(after, old)
    assert sorted((turned[d.sign], repr(d.item)) for d in back) == sorted(
        (d.sign, repr(d.item)) for d in found
    )


@settings(max_examples=examples(60))
@given(_ROLE, _ROLE)
def test_whatever_is_not_told_did_not_change(old: Role, new: Role) -> None:
    """The rules, asked one by one: a verb that differs is in some difference."""
    before = world(old, _ENTRIES)
    after, _ = applied(before, [new])
    found = [one for one in differing(before, new) if one.item.word == "resource"]
    verbs = {
        verb
        for one in found
        if one.item.names[0] in ("role", "*")
        for verb in one.item.end.split()[0].split(",")
    }
    for verb in EVERY_VERB:
        answers = {
            bool(decide(side.subject(side.people["alice"], ENV), UseRule("role", verb), ENV))
            for side in (before, after)
        }
        shown = "read" if verb == "readnosecrets" else verb
        assert len(answers) == 1 or not verbs.isdisjoint({shown, verb, "*"})
