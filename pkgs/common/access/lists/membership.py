"""Access lists: who is in which list now, who owns it, and which roles and traits that gives.

A list is a named group. Its members (users, or the members of another list) receive its `grants`, its owners
its `owner_grants`. Everything here only adds: taking a member, an owner or a list away never gives anybody
anything. That holds because requirements (`membership_requires`, `ownership_requires`) are about the roles
and traits of the user record, without what lists give. Whatever is unclear (a list that is no more, a member
whose time is over, a requirement not met, a role that does not exist) gives nothing.

Reading is safe with whatever is stored: a circle of lists ends where it begins, and no more than `MAX_DEPTH`
lists are climbed. Writing refuses both (`nesting_problem`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import Final, Literal, NamedTuple

from pkgs.common.resources.kinds import AccessList, AccessListMember, Resource
from pkgs.common.resources.kinds.requests import Grants, ListOwner, Requires

MAX_DEPTH = 10
"""Lists within lists above the one that a user is in themselves."""
LIST_KIND: Final = "MEMBERSHIP_KIND_LIST"
USER_KIND: Final = "MEMBERSHIP_KIND_USER"
Status = Literal["eligible", "expired", "does not exist", "requirements not met"]
Node = tuple[bool, str]
"""Whether it is a list, and its name: a user and a list may be called the same."""


class Person(NamedTuple):
    """A user with the roles and traits of their record, without what lists give."""

    name: str
    roles: frozenset[str]
    traits: Mapping[str, Sequence[str]]


class Way(NamedTuple):
    """How something came: through these lists, the last of which gives it; to its members or its owners."""

    path: tuple[str, ...]
    as_owner: bool = False


class Broken(NamedTuple):
    """A list that gives nothing, because roles it would give do not exist."""

    name: str
    missing_roles: tuple[str, ...]


class Standing(NamedTuple):
    """What lists give a user, and each thing by which ways; both in order of names."""

    roles: dict[str, tuple[Way, ...]]
    traits: dict[str, dict[str, tuple[Way, ...]]]
    broken: tuple[Broken, ...] = ()


class _Entry(NamedTuple):
    """A stored object and when it disappears by itself."""

    value: AccessList
    until: float | None


class _Member(NamedTuple):
    value: AccessListMember
    until: float | None


def is_list(kind: str) -> bool:
    """Whether a member or owner of this `membership_kind` is a list."""
    return kind == LIST_KIND


def node_of(member: AccessListMember | ListOwner) -> Node:
    """Who that member or owner is."""
    if isinstance(member, ListOwner):
        return is_list(member.membership_kind), member.name
    return is_list(member.spec.membership_kind), member.name


def meets(requires: Requires, person: Person) -> bool:
    """Whether a user has every role, and of every trait every value; a trait without values is never met."""
    return person.roles.issuperset(requires.roles) and all(
        bool(values) and set(values).issubset(person.traits.get(name, ()))
        for name, values in requires.traits.items()
    )


def is_current(member: AccessListMember, now: float) -> bool:
    """Whether a membership has not expired."""
    return member.spec.expires is None or aware(member.spec.expires).timestamp() > now


def aware(moment: datetime) -> datetime:
    """A time without a zone is UTC."""
    return moment.astimezone(UTC) if moment.tzinfo is not None else moment.replace(tzinfo=UTC)


class ListGraph:
    """All lists and their members, indexed by who is in them: answering takes the lists of one user, not all.

    Kept by one writer; each change costs the changed object."""

    def __init__(self, lists: Iterable[AccessList] = (), members: Iterable[AccessListMember] = ()) -> None:
        self._lists: dict[str, _Entry] = {}
        self._members: dict[str, dict[str, _Member]] = {}
        self._in: dict[Node, set[str]] = {}
        self._owned: dict[Node, set[str]] = {}
        for access_list in lists:
            self.put_list(access_list)
        for member in members:
            self.put_member(member)

    # Keeping it.

    def put_list(self, access_list: AccessList, until: float | None = None) -> None:
        self.drop_list(access_list.name)
        self._lists[access_list.name] = _Entry(access_list, until)
        for owner in access_list.spec.owners:
            self._owned.setdefault(node_of(owner), set()).add(access_list.name)

    def drop_list(self, name: str) -> None:
        """Its members stay, without effect until there is a list of that name."""
        entry = self._lists.pop(name, None)
        for owner in entry.value.spec.owners if entry is not None else ():
            _discard(self._owned, node_of(owner), name)

    def put_member(self, member: AccessListMember, until: float | None = None) -> None:
        list_name = member.spec.access_list
        self.drop_member(list_name, member.name)
        self._members.setdefault(list_name, {})[member.name] = _Member(member, until)
        self._in.setdefault(node_of(member), set()).add(list_name)

    def drop_member(self, list_name: str, name: str) -> None:
        group = self._members.get(list_name, {})
        entry = group.pop(name, None)
        if entry is not None:
            _discard(self._in, node_of(entry.value), list_name)
            if not group:
                del self._members[list_name]

    # What there is.

    def get(self, name: str, now: float) -> AccessList | None:
        entry = self._lists.get(name)
        if entry is None or (entry.until is not None and entry.until <= now):
            return None
        return entry.value

    def count(self, list_name: str) -> int:
        """Members of one list, whether they count or not."""
        return len(self._members.get(list_name, {}))

    def members(self, list_name: str, now: float) -> list[AccessListMember]:
        """Of one list, by name, also those who expired and are still recorded."""
        group = self._members.get(list_name, {})
        return [
            group[name].value for name in sorted(group) if _lives(group[name].until, now)
        ]  # fmt: skip

    def every_member(self, list_name: str) -> list[AccessListMember]:
        """Also of a list that does not exist (any more)."""
        return [entry.value for _, entry in sorted(self._members.get(list_name, {}).items())]

    def lists_with_member(self, node: Node) -> list[str]:
        """Whose member it is itself, by name, also of lists that do not exist (any more)."""
        return sorted(self._in.get(node, ()))

    def lists_with_owner(self, node: Node) -> list[str]:
        """Whose owner it is itself, by name."""
        return sorted(self._owned.get(node, ()))

    def member(self, list_name: str, name: str) -> AccessListMember | None:
        entry = self._members.get(list_name, {}).get(name)
        return entry.value if entry is not None else None

    # Who is what.

    def memberships(self, person: Person, now: float) -> dict[str, tuple[str, ...]]:
        """The lists that a user is in now, each with a shortest path of lists that leads into it.

        Level by level, so that the depth of a list is its least and the order of nesting is irrelevant."""
        found: dict[str, tuple[str, ...]] = {}
        level: list[tuple[str, ...]] = [(name,) for name in self._parents((False, person.name), now)]
        for _ in range(MAX_DEPTH + 1):
            above: list[tuple[str, ...]] = []
            for path in level:
                name = path[-1]
                access_list = self.get(name, now)
                if name in found or access_list is None:
                    continue
                if not meets(access_list.spec.membership_requires, person):
                    continue
                found[name] = path
                above += [(*path, parent) for parent in self._parents((True, name), now)]
            level = sorted(above)
        return found

    def _parents(self, node: Node, now: float) -> Iterator[str]:
        """The lists that it is a current member of itself."""
        for list_name in sorted(self._in.get(node, ())):
            entry = self._members[list_name][node[1]]
            if _lives(entry.until, now) and is_current(entry.value, now):
                yield list_name

    def ownerships(
        self, person: Person, now: float, memberships: Mapping[str, tuple[str, ...]] | None = None
    ) -> dict[str, tuple[str, ...]]:
        """The lists that a user owns now, themselves or as a member of a list that owns them."""
        inside = self.memberships(person, now) if memberships is None else memberships
        ways: list[tuple[Node, tuple[str, ...]]] = [((False, person.name), ())]
        ways += [((True, name), path) for name, path in inside.items()]
        found: dict[str, tuple[str, ...]] = {}
        for node, path in sorted(ways, key=lambda way: (len(way[1]), way[1])):
            for list_name in sorted(self._owned.get(node, ())):
                access_list = self.get(list_name, now)
                if list_name in found or access_list is None:
                    continue
                if meets(access_list.spec.ownership_requires, person):
                    found[list_name] = (*path, list_name)
        return found

    def standing(self, person: Person, now: float, role_exists: Callable[[str], bool]) -> Standing:
        """All that lists give a user now. A list gives all of its grants or, where a role is missing, none:
        the missing one might be the one that denies."""
        inside = self.memberships(person, now)
        if not inside and (False, person.name) not in self._owned:
            return NOTHING
        roles: dict[str, list[Way]] = {}
        traits: dict[str, dict[str, list[Way]]] = {}
        broken: dict[str, tuple[str, ...]] = {}
        for as_owner, ways in ((False, inside), (True, self.ownerships(person, now, inside))):
            for name, path in ways.items():
                grants = self._grants(name, as_owner=as_owner)
                missing = tuple(role for role in grants.roles if not role_exists(role))
                if missing:
                    broken[name] = missing
                    continue
                way = Way(path, as_owner)
                for role in grants.roles:
                    roles.setdefault(role, []).append(way)
                for trait, values in grants.traits.items():
                    for value in values:
                        traits.setdefault(trait, {}).setdefault(value, []).append(way)
        return Standing(
            {role: tuple(sorted(roles[role])) for role in sorted(roles)},
            {
                trait: {value: tuple(sorted(traits[trait][value])) for value in sorted(traits[trait])}
                for trait in sorted(traits)
            },
            tuple(Broken(name, broken[name]) for name in sorted(broken)),
        )

    def _grants(self, name: str, *, as_owner: bool) -> Grants:
        spec = self._lists[name].value.spec
        return spec.owner_grants if as_owner else spec.grants

    def status(self, member: AccessListMember, person: Person | None, now: float) -> Status:
        """Whether a member counts, and if not, why. `person`: the user of that name, if there is one."""
        if not is_current(member, now):
            return "expired"
        if is_list(member.spec.membership_kind):
            return "eligible" if self.get(member.name, now) is not None else "does not exist"
        if person is None:
            return "does not exist"
        access_list = self.get(member.spec.access_list, now)
        if access_list is None or not meets(access_list.spec.membership_requires, person):
            return "requirements not met"
        return "eligible"

    # Before writing.

    def nesting_problem(self, outer: str, inner: str) -> str:
        """Why `inner` may not be a member or an owner of `outer`; empty: it may. Members and owners are one
        graph here: no list rules over itself in any way."""
        if outer == inner:
            return "a list cannot be its own member or owner"
        if outer in _reachable(inner, self._inner_lists):
            return f'"{outer}" is already within "{inner}": lists would form a circle'
        if _height(outer, self._outer_lists) + 1 + _height(inner, self._inner_lists) > MAX_DEPTH:
            return f"lists may be nested {MAX_DEPTH} deep"
        return ""

    def _inner_lists(self, name: str) -> Iterator[str]:
        for member in self._members.get(name, {}).values():
            if is_list(member.value.spec.membership_kind):
                yield member.value.name
        entry = self._lists.get(name)
        for owner in entry.value.spec.owners if entry is not None else ():
            if is_list(owner.membership_kind):
                yield owner.name

    def _outer_lists(self, name: str) -> Iterator[str]:
        yield from self._in.get((True, name), ())
        yield from self._owned.get((True, name), ())


NOTHING = Standing({}, {})


def _lives(until: float | None, now: float) -> bool:
    return until is None or until > now


def _discard(index: dict[Node, set[str]], node: Node, name: str) -> None:
    names = index.get(node)
    if names is not None:
        names.discard(name)
        if not names:
            del index[node]


def _reachable(start: str, following: Callable[[str], Iterable[str]]) -> set[str]:
    found, waiting = {start}, [start]
    while waiting:
        for name in following(waiting.pop()):
            if name not in found:
                found.add(name)
                waiting.append(name)
    return found


def _height(start: str, following: Callable[[str], Iterable[str]]) -> int:
    """Longest chain from `start`, counted to one more than is allowed: a circle ends there as well."""
    level, height = set(following(start)), 0
    while level and height <= MAX_DEPTH:
        height += 1
        level = {after for name in level for after in following(name)}
    return height


def restorable(resources: Sequence[Resource]) -> list[AccessList]:
    """In an order in which each list comes after the lists that own it; a circle stays as it is."""
    lists = [found for found in resources if isinstance(found, AccessList)]
    by_name = {access_list.name: access_list for access_list in lists}
    done: dict[str, AccessList] = {}
    for first in lists:
        chain, open_names = [first], {first.name}
        while chain:
            current = chain[-1]
            waiting = next(
                (
                    by_name[owner.name]
                    for owner in current.spec.owners
                    if is_list(owner.membership_kind)
                    and owner.name in by_name
                    and owner.name not in done
                    and owner.name not in open_names
                ),
                None,
            )
            if waiting is not None:
                chain.append(waiting)
                open_names.add(waiting.name)
            else:
                chain.pop()
                done.setdefault(current.name, current)
    return list(done.values())
