"""The same questions before and after, and where the answers differ."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import dataclass, replace
from itertools import islice

from pkgs.common.access.contexts.where import SESSION_KINDS
from pkgs.common.access.policydiff import limits
from pkgs.common.access.policydiff.items import WORDS, Item, alike, items
from pkgs.common.access.policydiff.states import Side, State
from pkgs.common.access.policytests.world import Person, World, person_of_user
from pkgs.common.access.roleset import RoleSet
from pkgs.common.access.rules import VERBS
from pkgs.common.access.types import Environment, Subject, UseRule
from pkgs.common.errors import InputError
from pkgs.common.resources.kinds import AccessList, AccessListMember, Resource, User
from pkgs.common.resources.role import Conditions, Role

RULES = "resource"
KINDS = (*WORDS, RULES)
"""What may be compared."""
EVERY_VERB = VERBS[:-1]
_OWN = " (own sessions)"


@dataclass(frozen=True, slots=True)
class Difference:
    """One question whose answer changes for one user."""

    user: str
    item: Item
    before: State
    after: State

    @property
    def sign(self) -> str:
        """`+` gained, `-` lost, `~` allowed still but otherwise."""
        if self.before.allowed is self.after.allowed:
            return "~"
        return "+" if self.after.allowed else "-"


@dataclass(frozen=True, slots=True)
class Circumstance:
    """A role that a user holds before and after, and that counts at other hours or from other networks."""

    user: str
    role: str


def applied(world: World, documents: Iterable[Resource]) -> tuple[World, list[Resource]]:
    """The world once the roles, users and access lists among the documents are applied, and the documents
    that are neither. What no document names stays."""
    roles, people = dict(world.roles), dict(world.people)
    lists: list[AccessList] = []
    members: list[AccessListMember] = []
    left_out: list[Resource] = []
    for document in documents:
        match document:
            case Role():
                roles[document.name] = document
            case User():
                people[document.name] = person_of_user(document)
            case AccessList():
                lists.append(document)
            case AccessListMember():
                members.append(document)
            case _:
                left_out.append(document)
    return replace(world, roles=roles, people=people).with_lists(lists, members), left_out


class Comparison:
    """Two worlds with the same resources, locks and settings. `notes` fill while it is iterated."""

    def __init__(self, before: World, after: World, env: Environment) -> None:
        self._before = before
        self._after = after
        self._env = replace(env, locks=before.locks, auth_preference=before.auth_preference)
        self.notes: dict[str, None] = {}

    def affected(self) -> list[str]:
        """Users who differ, or some role of whom does: nobody else's answers can change."""
        before, after = self._before, self._after
        changed = {
            name
            for name in before.roles.keys() | after.roles.keys()
            if before.roles.get(name) != after.roles.get(name)
        }
        found = []
        for name in sorted(before.people.keys() | after.people.keys()):
            old, new = self._held(before, name), self._held(after, name)
            if old != new or (new is not None and not changed.isdisjoint(new.roles)):
                found.append(name)
        return found

    def _held(self, world: World, name: str) -> Person | None:
        person = world.people.get(name)
        return None if person is None else world.holding(person, self._env.now)

    def circumstances(self, users: Iterable[str]) -> Iterator[Circumstance]:
        """Roles whose hours or networks change; what it comes to depends on when and from where."""
        for user in users:
            old, new = self._held(self._before, user), self._held(self._after, user)
            held = set(old.roles if old else ()) & set(new.roles if new else ())
            for name in sorted(held):
                before, after = self._before.roles.get(name), self._after.roles.get(name)
                if before and after and _circumstances(before) != _circumstances(after):
                    yield Circumstance(user, name)

    def differences(
        self,
        users: Iterable[str],
        kinds: Collection[str] = KINDS,
        progress: Callable[[str], None] = lambda user: None,
    ) -> Iterator[Difference]:
        """Of these users, about these kinds."""
        groups = alike(self._before, [word for word in WORDS if word in kinds])
        for user in users:
            progress(user)
            before = Side(self._before, self._before.people.get(user), self._env)
            after = Side(self._after, self._after.people.get(user), self._env)
            sides = [
                (side.subject, side.roles)
                for side in (before, after)
                if side.subject is not None and side.roles is not None
            ]
            if not sides:
                continue
            for group in groups:
                try:
                    asked = list(islice(items(group, sides), limits.MAX_QUESTIONS + 1))
                except InputError as error:
                    self.notes[f"{user}: {group.word}: {error.message}: nothing is allowed"] = None
                    continue
                if len(asked) > limits.MAX_QUESTIONS:
                    asked.pop()
                    self.notes[
                        f"{user}: {group.word}: the roles name more than {limits.MAX_QUESTIONS} principals;"
                        " the rest is not compared"
                    ] = None
                yield from _ask(user, asked, before, after)
            if RULES in kinds:
                yield from _rules(user, sides, before, after)


def _ask(user: str, asked: Iterable[Item], before: Side, after: Side) -> Iterator[Difference]:
    for item in asked:
        old, new = before.ask(item.target), after.ask(item.target)
        if not old.same(new):
            yield Difference(user, item, old, new)


def _circumstances(role: Role) -> object:
    def side(conditions: Conditions) -> tuple[object, object]:
        return conditions.when, conditions.source

    return side(role.spec.allow), side(role.spec.deny)


def _rules(
    user: str, sides: Iterable[tuple[Subject, RoleSet]], before: Side, after: Side
) -> Iterator[Difference]:
    """Every kind that some role names, and `*` for any other; verbs that change alike are one difference."""
    kinds = {
        kind
        for _, roles in sides
        for role in roles.compiled
        for rule in (*role.allow_rules, *role.deny_rules)
        for kind in rule.kinds
    }
    for kind in sorted(kinds):
        yield from _verbs(user, UseRule(kind, ""), "", before, after)
        if kind in SESSION_KINDS:
            own = UseRule(kind, "", owner=user, participants=(user,))
            yield from _verbs(user, own, _OWN, before, after)


def _verbs(user: str, asked: UseRule, ending: str, before: Side, after: Side) -> Iterator[Difference]:
    found: dict[tuple[str, ...], list[tuple[str, Difference]]] = {}
    for verb in EVERY_VERB:
        target = replace(asked, verb=verb)
        if ending and not _whole(before, target).same(_whole(after, target)):
            # Told about all sessions already.
            continue
        for difference in _ask(user, [Item(RULES, "", "", (asked.kind,), target)], before, after):
            old, new = difference.before, difference.after
            key = (repr(old), repr(new))
            found.setdefault(key, []).append((verb, difference))
    for verbs in found.values():
        names = [verb for verb, _ in verbs]
        if "read" in names and "readnosecrets" in names:
            names.remove("readnosecrets")
        shown = "*" if len(verbs) == len(EVERY_VERB) else ",".join(names)
        first = verbs[0][1]
        yield replace(first, item=replace(first.item, end=f" {shown}{ending}"))


def _whole(side: Side, own: UseRule) -> State:
    """About all sessions rather than one's own."""
    return side.ask(replace(own, owner="", participants=()))
