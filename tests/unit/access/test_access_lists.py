"""Who is in which list, and what that gives: tables, laws, and the graph against a naive reading."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from itertools import pairwise
from typing import NamedTuple

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pkgs.common.access.lists.membership import (
    LIST_KIND,
    MAX_DEPTH,
    USER_KIND,
    Broken,
    ListGraph,
    Person,
    Way,
    meets,
    restorable,
)
from pkgs.common.access.lists.reviews import after_review, days_left, needs_review, next_audit
from pkgs.common.resources.kinds import AccessList, AccessListMember
from pkgs.common.resources.kinds.requests import (
    AccessListSpec,
    AuditRecurrence,
    Grants,
    ListAudit,
    ListMemberSpec,
    ListOwner,
    Requires,
)
from pkgs.common.resources.metadata import Metadata

NOW = 1_700_000_000.0
NO_DEMANDS = Requires()
ALICE = Person("alice", frozenset({"staff"}), {"team": ["red", "blue"]})


def access_list(
    name: str,
    *roles: str,
    owners: Sequence[str] = ("root",),
    owner_roles: Sequence[str] = (),
    requires: Requires = NO_DEMANDS,
    owner_requires: Requires = NO_DEMANDS,
    traits: dict[str, list[str]] | None = None,
    type: str = "",
) -> AccessList:
    return AccessList(
        metadata=Metadata(name=name),
        spec=AccessListSpec(
            title=name,
            type=type,  # type: ignore[arg-type]
            owners=[
                ListOwner(
                    name=o.removeprefix("list/"),
                    membership_kind=LIST_KIND if o.startswith("list/") else USER_KIND,
                )
                for o in owners
            ],
            grants=Grants(roles=list(roles), traits=traits or {}),
            owner_grants=Grants(roles=list(owner_roles)),
            membership_requires=requires,
            ownership_requires=owner_requires,
        ),
    )


def member(list_name: str, name: str, expires: float | None = None) -> AccessListMember:
    nested = name.startswith("list/")
    name = name.removeprefix("list/")
    return AccessListMember(
        metadata=Metadata(name=name),
        sub_kind=list_name,
        spec=ListMemberSpec(
            access_list=list_name,
            name=name,
            expires=datetime.fromtimestamp(expires, UTC) if expires is not None else None,
            membership_kind=LIST_KIND if nested else USER_KIND,
        ),
    )


def every(role: str) -> bool:
    return True


class TestMembership:
    def test_grants_come_through_nested_lists_with_their_path(self) -> None:
        graph = ListGraph(
            [access_list("team", traits={"logins": ["ops"]}), access_list("prod", "access")],
            [member("team", "alice"), member("prod", "list/team")],
        )
        standing = graph.standing(ALICE, NOW, every)
        assert standing.roles == {"access": (Way(("team", "prod")),)}
        assert standing.traits == {"logins": {"ops": (Way(("team",)),)}}
        assert graph.standing(Person("bob", frozenset(), {}), NOW, every).roles == {}

    def test_the_members_of_an_outer_list_are_not_in_the_inner_one(self) -> None:
        graph = ListGraph(
            [access_list("team", "a"), access_list("prod", "b")],
            [member("prod", "alice"), member("prod", "list/team")],
        )
        assert set(graph.standing(ALICE, NOW, every).roles) == {"b"}

    @pytest.mark.parametrize("expires, counts", [(NOW + 1, True), (NOW, False), (NOW - 1, False)])
    @pytest.mark.parametrize("nested", [True, False])
    def test_a_membership_ends_at_its_time(self, expires: float, counts: bool, nested: bool) -> None:
        graph = ListGraph(
            [access_list("team"), access_list("prod", "access")],
            [
                member("team", "alice", None if nested else expires),
                member("prod", "list/team", expires if nested else None),
            ],
        )
        assert bool(graph.standing(ALICE, NOW, every).roles) is counts

    def test_what_is_stored_with_an_end_of_its_own_ends_there(self) -> None:
        graph = ListGraph()
        graph.put_list(access_list("prod", "access"), NOW + 10)
        graph.put_member(member("prod", "alice"), NOW + 5)
        assert graph.standing(ALICE, NOW, every).roles
        assert not graph.standing(ALICE, NOW + 5, every).roles
        graph.put_member(member("prod", "alice"))
        assert not graph.standing(ALICE, NOW + 10, every).roles

    def test_a_user_is_not_the_list_of_the_same_name(self) -> None:
        graph = ListGraph(
            [access_list("prod", "access"), access_list("alice")], [member("prod", "list/alice")]
        )
        assert graph.standing(ALICE, NOW, every).roles == {}
        assert graph.ownerships(ALICE, NOW) == {}

    @pytest.mark.parametrize(
        "requires, met",
        [
            (Requires(), True),
            (Requires(roles=["staff"]), True),
            (Requires(roles=["staff", "other"]), False),
            (Requires(traits={"team": ["red"]}), True),
            (Requires(traits={"team": ["red", "green"]}), False),
            (Requires(traits={"office": ["x"]}), False),
            (Requires(traits={"team": []}), False),
            (Requires(roles=["staff"], traits={"team": ["blue", "red"]}), True),
        ],
    )
    def test_all_that_is_required_must_hold(self, requires: Requires, met: bool) -> None:
        assert meets(requires, ALICE) is met
        inner = ListGraph([access_list("prod", "access", requires=requires)], [member("prod", "alice")])
        assert bool(inner.standing(ALICE, NOW, every).roles) is met
        # Of the list in between as well: who is not in that, is not in what is around it.
        outer = ListGraph(
            [access_list("team", requires=requires), access_list("prod", "access")],
            [member("team", "alice"), member("prod", "list/team")],
        )
        assert bool(outer.standing(ALICE, NOW, every).roles) is met

    def test_requirements_are_about_the_record_not_about_what_lists_give(self) -> None:
        graph = ListGraph(
            [access_list("one", "extra"), access_list("two", "access", requires=Requires(roles=["extra"]))],
            [member("one", "alice"), member("two", "alice")],
        )
        assert set(graph.standing(ALICE, NOW, every).roles) == {"extra"}

    def test_the_depth_is_bounded(self) -> None:
        names = [f"l{n:02d}" for n in range(MAX_DEPTH + 3)]
        graph = ListGraph(
            [access_list(name, f"r{name}") for name in names],
            [
                member(names[0], "alice"),
                *(member(b, f"list/{a}") for a, b in pairwise(names)),
            ],
        )
        assert list(graph.memberships(ALICE, NOW)) == names[: MAX_DEPTH + 1]

    def test_a_circle_gives_what_its_lists_give_and_ends(self) -> None:
        graph = ListGraph(
            [access_list("a", "ra"), access_list("b", "rb")],
            [member("a", "alice"), member("a", "list/b"), member("b", "list/a"), member("a", "list/a")],
        )
        assert set(graph.standing(ALICE, NOW, every).roles) == {"ra", "rb"}


class TestOwners:
    def test_owners_own_themselves_or_through_a_list(self) -> None:
        graph = ListGraph(
            [
                access_list("team"),
                access_list("one", "m", owners=["alice"], owner_roles=["boss"]),
                access_list("two", owners=["list/team"], owner_roles=["chief"]),
            ],
            [member("team", "alice")],
        )
        assert graph.ownerships(ALICE, NOW) == {"one": ("one",), "two": ("team", "two")}
        standing = graph.standing(ALICE, NOW, every)
        # To own a list is not to be in it.
        assert standing.roles == {
            "boss": (Way(("one",), as_owner=True),),
            "chief": (Way(("team", "two"), as_owner=True),),
        }

    def test_an_owner_who_lacks_what_is_required_owns_nothing(self) -> None:
        graph = ListGraph(
            [access_list("one", owners=["alice"], owner_roles=["boss"], owner_requires=Requires(roles=["x"]))]
        )
        assert graph.ownerships(ALICE, NOW) == {}
        assert graph.standing(ALICE, NOW, every).roles == {}


def test_a_list_with_a_missing_role_gives_nothing_of_itself() -> None:
    graph = ListGraph(
        [access_list("one", "access", "gone", traits={"logins": ["root"]}), access_list("two", "other")],
        [member("one", "alice"), member("two", "alice")],
    )
    standing = graph.standing(ALICE, NOW, lambda role: role != "gone")
    assert (set(standing.roles), standing.traits) == ({"other"}, {})
    assert standing.broken == (Broken("one", ("gone",)),)


def test_why_a_member_does_not_count() -> None:
    graph = ListGraph(
        [access_list("one", "access", requires=Requires(roles=["staff"])), access_list("inner")],
        [],
    )
    assert graph.status(member("one", "alice"), ALICE, NOW) == "eligible"
    assert graph.status(member("one", "alice", NOW), ALICE, NOW) == "expired"
    assert graph.status(member("one", "bob"), None, NOW) == "does not exist"
    assert graph.status(member("one", "bob"), Person("bob", frozenset(), {}), NOW) == "requirements not met"
    assert graph.status(member("one", "list/inner"), None, NOW) == "eligible"
    assert graph.status(member("one", "list/none"), None, NOW) == "does not exist"


class TestNesting:
    def test_circles_are_refused_through_members_and_owners(self) -> None:
        graph = ListGraph(
            [access_list("a"), access_list("b"), access_list("c", owners=["list/b"])],
            [member("b", "list/a")],
        )
        assert "own member" in graph.nesting_problem("a", "a")
        assert "circle" in graph.nesting_problem("a", "b")
        assert "circle" in graph.nesting_problem("a", "c")
        assert graph.nesting_problem("c", "a") == ""
        assert graph.nesting_problem("b", "d") == ""

    def test_the_deepest_chain_that_is_allowed(self) -> None:
        names = [f"l{n:02d}" for n in range(MAX_DEPTH + 1)]
        graph = ListGraph([access_list(n) for n in names], [])
        for inner, outer in pairwise(names[:6]):
            assert graph.nesting_problem(outer, inner) == ""
            graph.put_member(member(outer, f"list/{inner}"))
        for inner, outer in pairwise(names[6:]):
            assert graph.nesting_problem(outer, inner) == ""
            graph.put_member(member(outer, f"list/{inner}"))
        # 5 nestings below, 4 above, and the one between make 10.
        assert graph.nesting_problem(names[6], names[5]) == ""
        graph.put_member(member(names[6], f"list/{names[5]}"))
        assert "10 deep" in graph.nesting_problem("more", names[-1])
        assert "10 deep" in graph.nesting_problem(names[0], "more")
        assert graph.nesting_problem("more", names[-2]) == ""

    def test_a_stored_circle_lets_checks_end(self) -> None:
        graph = ListGraph(
            [access_list("a"), access_list("b"), access_list("c")],
            [member("a", "list/b"), member("b", "list/a")],
        )
        assert "deep" in graph.nesting_problem("c", "a")
        assert "circle" in graph.nesting_problem("b", "a")


def test_an_order_that_can_be_restored() -> None:
    lists = [
        access_list("a", owners=["list/c", "list/missing"]),
        access_list("b"),
        access_list("c", owners=["list/d"]),
        access_list("d", owners=["x"]),
    ]
    assert [found.name for found in restorable(lists)] == ["d", "c", "a", "b"]
    circle = [access_list("a", owners=["list/b"]), access_list("b", owners=["list/a"])]
    assert {found.name for found in restorable(circle)} == {"a", "b"}


# The laws, with lists of any shape.


class World(NamedTuple):
    lists: list[AccessList]
    members: list[AccessListMember]
    person: Person


NAMES = ["a", "b", "c", "d", "e", "f"]
_requires = st.builds(
    Requires,
    roles=st.lists(st.sampled_from(["r1", "r2"]), max_size=1),
    traits=st.dictionaries(st.just("team"), st.lists(st.sampled_from(["x", "y"]), max_size=2), max_size=1),
)
_owners = st.lists(st.sampled_from(["alice", "bob", "list/a", "list/b", "list/c"]), max_size=2, unique=True)


@st.composite
def worlds(draw: st.DrawFn) -> World:
    lists = [
        access_list(
            name,
            f"m-{name}",
            owners=draw(_owners),
            owner_roles=[f"o-{name}"],
            requires=draw(st.one_of(st.just(Requires()), _requires)),
            owner_requires=draw(st.one_of(st.just(Requires()), _requires)),
        )
        for name in draw(st.lists(st.sampled_from(NAMES), unique=True))
    ]
    who = st.sampled_from(["alice", "bob", *(f"list/{name}" for name in NAMES)])
    pairs = draw(st.lists(st.tuples(st.sampled_from(NAMES), who), max_size=14))
    by_key = {
        (outer, name.removeprefix("list/")): member(
            outer, name, draw(st.sampled_from([None, None, NOW - 1, NOW + 1]))
        )
        for outer, name in pairs
    }
    roles = draw(st.frozensets(st.sampled_from(["r1", "r2"])))
    traits = draw(st.dictionaries(st.just("team"), st.lists(st.sampled_from(["x", "y"])), max_size=1))
    return World(lists, list(by_key.values()), Person("alice", roles, traits))


def naive(world: World) -> set[str]:
    """The definition, read downwards: in a list is who is its member, or in a list that is its member."""
    lists = {found.name: found for found in world.lists}

    def is_in(name: str, depth: int) -> bool:
        found = lists.get(name)
        if found is None or depth < 0 or not meets(found.spec.membership_requires, world.person):
            return False
        for m in world.members:
            if m.spec.access_list != name or (m.spec.expires and m.spec.expires.timestamp() <= NOW):
                continue
            if m.spec.membership_kind == USER_KIND and m.name == world.person.name:
                return True
            if m.spec.membership_kind == LIST_KIND and is_in(m.name, depth - 1):
                return True
        return False

    inside = {name for name in lists if is_in(name, MAX_DEPTH)}
    owned = {
        found.name
        for found in world.lists
        if meets(found.spec.ownership_requires, world.person)
        and any(
            o.name in inside if o.membership_kind == LIST_KIND else o.name == world.person.name
            for o in found.spec.owners
        )
    }
    return {f"m-{name}" for name in inside} | {f"o-{name}" for name in owned}


def held(world: World) -> set[str]:
    return set(ListGraph(world.lists, world.members).standing(world.person, NOW, every).roles)


@given(worlds())
def test_the_graph_says_what_the_definition_says(world: World) -> None:
    assert held(world) == naive(world)


@given(worlds(), st.randoms(use_true_random=False))
def test_order_is_irrelevant(world: World, random: object) -> None:
    lists, members = list(world.lists), list(world.members)
    random.shuffle(lists)  # type: ignore[attr-defined]
    random.shuffle(members)  # type: ignore[attr-defined]
    first = ListGraph(world.lists, world.members).standing(world.person, NOW, every)
    assert ListGraph(lists, members).standing(world.person, NOW, every) == first


@given(worlds(), st.data())
def test_taking_something_away_never_gives(world: World, data: st.DataObject) -> None:
    before = held(world)
    if world.members:
        index = data.draw(st.integers(0, len(world.members) - 1))
        fewer = world._replace(members=world.members[:index] + world.members[index + 1 :])
        assert held(fewer) <= before
    if world.lists:
        index = data.draw(st.integers(0, len(world.lists) - 1))
        assert held(world._replace(lists=world.lists[:index] + world.lists[index + 1 :])) <= before
        changed = world.lists[index]
        spec = msgspec.structs.replace(changed.spec, owners=changed.spec.owners[:-1])
        fewer_owners = [*world.lists]
        fewer_owners[index] = msgspec.structs.replace(changed, spec=spec)
        assert held(world._replace(lists=fewer_owners)) <= before
    assert held(world._replace(person=world.person._replace(roles=frozenset()))) <= before
    graph = ListGraph(world.lists, world.members)
    assert set(graph.standing(world.person, NOW, lambda role: role != "m-a").roles) <= before


@given(worlds(), worlds())
def test_a_graph_that_was_changed_is_one_that_was_made_anew(first: World, second: World) -> None:
    graph = ListGraph(first.lists, first.members)
    for m in first.members:
        if m not in second.members:
            graph.drop_member(m.spec.access_list, m.name)
    for found in first.lists:
        graph.drop_list(found.name)
    for found in second.lists:
        graph.put_list(found)
    for m in second.members:
        graph.put_member(m)
        graph.put_member(m)
    anew = ListGraph(second.lists, second.members)
    assert graph.standing(second.person, NOW, every) == anew.standing(second.person, NOW, every)
    for name in NAMES:
        assert graph.every_member(name) == anew.every_member(name)
        assert graph.lists_with_member((True, name)) == anew.lists_with_member((True, name))
        assert graph.lists_with_owner((True, name)) == anew.lists_with_owner((True, name))


@given(worlds())
def test_every_way_is_a_way(world: World) -> None:
    """Each path begins where the user is themselves and climbs from list to list."""
    graph = ListGraph(world.lists, world.members)
    lists = {found.name: found for found in world.lists}
    for role, ways in graph.standing(world.person, NOW, every).roles.items():
        for way in ways:
            assert role in (f"m-{way.path[-1]}", f"o-{way.path[-1]}")
            climbed = way.path[:-1] if way.as_owner else way.path
            for inner, outer in zip(("alice", *climbed), climbed, strict=False):
                assert graph.member(outer, inner) is not None
            if way.as_owner:
                owner = climbed[-1] if climbed else "alice"
                assert any(o.name == owner for o in lists[way.path[-1]].spec.owners)


# Reviews.


def day(year: int, month: int, number: int, hour: int = 0) -> datetime:
    return datetime(year, month, number, hour, tzinfo=UTC)


@pytest.mark.parametrize(
    "frequency, of_month, after, due",
    [
        ("1", "1", day(2026, 1, 31), day(2026, 2, 1)),
        ("1", "31", day(2026, 1, 31), day(2026, 2, 28)),
        ("1", "last", day(2028, 1, 31), day(2028, 2, 29)),
        ("1", "last", day(2026, 2, 28), day(2026, 3, 31)),
        ("1 month", "15", day(2026, 12, 1), day(2027, 1, 15)),
        ("3", "last", day(2026, 8, 31), day(2026, 11, 30)),
        ("3 months", "1", day(2026, 10, 5, 23), day(2027, 1, 1)),
        ("6", "31", day(2025, 8, 31), day(2026, 2, 28)),
        ("6", "1", day(2026, 6, 30), day(2026, 12, 1)),
        ("12", "15", day(2026, 2, 28), day(2027, 2, 15)),
        ("1 year", "last", day(2027, 2, 28), day(2028, 2, 29)),
        ("1", "1", datetime(2026, 1, 31), day(2026, 2, 1)),
    ],
)
def test_due_days_at_the_ends_of_months(
    frequency: str, of_month: str, after: datetime, due: datetime
) -> None:
    recurrence = AuditRecurrence(frequency=frequency, day_of_month=of_month)  # type: ignore[arg-type]
    assert next_audit(recurrence, after) == due


@given(
    st.sampled_from(["1", "3", "6", "12"]),
    st.sampled_from(["1", "15", "last"]),
    st.datetimes(datetime(2000, 1, 1), datetime(2100, 1, 1)),
)
def test_the_next_day_is_in_the_month_that_is_due(frequency: str, of_month: str, after: datetime) -> None:
    due = next_audit(AuditRecurrence(frequency=frequency, day_of_month=of_month), after)  # type: ignore[arg-type]
    assert due > after.replace(tzinfo=UTC)
    assert (due.year * 12 + due.month) - (after.year * 12 + after.month) == int(frequency)


def audited(due: datetime | None, type: str = "") -> AccessList:
    found = access_list("x", "access", type=type)
    audit = ListAudit(next_audit_date=due, recurrence=AuditRecurrence(frequency="3", day_of_month="1"))
    return msgspec.structs.replace(found, spec=msgspec.structs.replace(found.spec, audit=audit))


def test_a_review_made_early_counts_for_the_day_that_was_due_and_a_late_one_for_today() -> None:
    now = day(2026, 5, 20)
    assert after_review(audited(day(2026, 6, 1)), now) == day(2026, 9, 1)
    assert after_review(audited(day(2025, 1, 1)), now) == day(2026, 8, 1)
    assert after_review(audited(None), now) == day(2026, 8, 1)


def test_when_a_review_is_near() -> None:
    due = day(2026, 6, 15)
    assert not needs_review(audited(due), day(2026, 5, 31))
    assert needs_review(audited(due), day(2026, 6, 1))
    assert needs_review(audited(due), day(2026, 7, 1))
    assert not needs_review(audited(due, "static"), day(2026, 7, 1))
    assert not needs_review(audited(None), day(2026, 7, 1))
    assert days_left(audited(due), day(2026, 6, 1)) == 14
    assert days_left(audited(due), day(2026, 6, 20)) == -5
    assert days_left(audited(due, "scim"), day(2026, 6, 1)) is None
