"""Tests as cases: one user, one action, one resource, one expectation each.

Whatever a test names must exist: a test about nobody, or about nothing, would pass for the wrong reason.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from datetime import datetime

from pkgs.common.access.policytests import limits
from pkgs.common.access.policytests.document import Defaults, PolicyTest
from pkgs.common.access.policytests.questions import EVERY, Asked, Question, questions, words_of
from pkgs.common.access.policytests.reading import Parsed, Place, Placed
from pkgs.common.access.policytests.world import Person, World, world_of
from pkgs.common.access.types import Environment, Subject, Target
from pkgs.common.errors import InputError
from pkgs.common.pki.source import parse_address
from pkgs.common.resources.defaults import IMPLICIT_ROLE
from pkgs.common.resources.role import Role
from pkgs.common.resources.strict import suggest

SOMEBODY = "somebody"
"""Name of whoever has just the roles and traits that a test gives."""
SOME_TIME = 1_767_225_600.0
"""2026-01-01T00:00:00Z: the time where no answer depends on it."""


@dataclass(frozen=True, slots=True)
class Case:
    place: Place
    name: str
    test: PolicyTest
    subject: Subject
    env: Environment
    text: str
    """The action; empty: only the logins of the certificate are looked at."""
    target: Target | None

    @property
    def user(self) -> str:
        return self.subject.identity.name


@dataclass(frozen=True, slots=True)
class Suite:
    """The cases of one file."""

    source: str
    cases: tuple[Case, ...]


def build(parsed: Parsed, read: Iterable[Placed] = ()) -> Suite:
    """The cases of a file, with the documents `read` from the paths that it names. Raises InputError."""
    if len(parsed.places) > limits.MAX_TESTS:
        raise InputError(f"{parsed.source}: more than {limits.MAX_TESTS} tests")
    world = world_of(parsed.source, (*parsed.documents, *read), parsed.file)
    maker = _Maker(world, parsed.file.defaults)
    for name, person in world.people.items():
        try:
            world.held(person.roles)
        except InputError as error:
            raise InputError(
                f"{parsed.source}: users.{name}.roles: {error.message}", hint=error.hint
            ) from None
    cases: list[Case] = []
    for test, place in zip(parsed.file.tests, parsed.places, strict=True):
        try:
            for case in maker.cases(test, place):
                cases.append(case)
                if len(cases) > limits.MAX_CASES:
                    raise InputError(f"more than {limits.MAX_CASES} cases in one file")
        except InputError as error:
            raise place.refuse(error.message, error.hint) from None
    return Suite(parsed.source, tuple(cases))


class _Maker:
    """Cases of one world; whoever asks the same way again is the same subject, compiled once."""

    def __init__(self, world: World, defaults: Defaults) -> None:
        self._world = world
        self._defaults = defaults
        self._subjects: dict[tuple[object, ...], Subject] = {}
        self._environments: dict[tuple[float, str], Environment] = {}
        self._questions: dict[tuple[object, ...], list[Question]] = {}

    def cases(self, test: PolicyTest, place: Place) -> Iterator[Case]:
        _check(test, self._world)
        people = self._people(test)
        actions = [test.action] if test.action else test.actions
        found = [question for action in actions for question in self._ask(test, action)]
        asked: list[tuple[str, Target | None]] = [*found] or [("", None)]
        many = len(people) * len(asked) > 1
        for person in people:
            subject, env = self._subject(test, person)
            for text, target in asked:
                asks = f"{person.name}: {text or 'logins'}"
                name = f"{test.name} [{asks}]" if test.name and many else test.name or asks
                yield Case(place, name, test, subject, env, text, target)

    def _people(self, test: PolicyTest) -> list[Person]:
        names = [test.user] if test.user else test.users
        known = self._world.people
        if not names:
            if test.roles is None:
                raise InputError("a test is about somebody", hint="name a user or users, or give roles")
            people = [Person(SOMEBODY, (), {})]
        elif names == [EVERY]:
            people = [known[name] for name in sorted(known)]
            if not people:
                raise InputError("there are no users, so that nothing is tested")
        else:
            for name in names:
                if name not in known:
                    raise InputError(
                        f"there is no user {name[:80]!r}", hint=suggest(name, sorted(known)[:1000])
                    )
            people = [known[name] for name in dict.fromkeys(names)]
        mfa = self._defaults.mfa if test.mfa is None else test.mfa
        device = self._defaults.device if test.device is None else test.device
        now = self._now(test)
        people = [self._world.holding(person, now) for person in people]
        return [
            replace(
                person,
                roles=person.roles if test.roles is None else tuple(test.roles),
                traits=person.traits
                if test.traits is None
                else {trait: tuple(values) for trait, values in test.traits.items()},
                mfa=person.mfa if mfa is None else mfa,
                device=person.device if device is None else device,
            )
            for person in people
        ]

    def _ask(self, test: PolicyTest, action: str) -> list[Question]:
        if test.session is not None:
            return questions(self._world, Asked(words_of(action), test.labels, test.session))
        key = (action, *sorted(test.labels.items()))
        found = self._questions.get(key)
        if found is None:
            found = questions(self._world, Asked(words_of(action), test.labels, None))
            self._questions[key] = found
        return found

    def _now(self, test: PolicyTest) -> float:
        at = test.at or self._defaults.at
        return SOME_TIME if at is None else _seconds(at)

    def _subject(self, test: PolicyTest, person: Person) -> tuple[Subject, Environment]:
        at = test.at or self._defaults.at
        now = self._now(test)
        traits = tuple((name, person.traits[name]) for name in sorted(person.traits))
        key = (person.name, person.roles, traits, person.mfa, person.device, now)
        source = self._defaults.source if test.source is None else test.source
        env = self._environments.get((now, source))
        if env is None:
            if source and parse_address(source) is None:
                raise InputError(f"from: {source[:80]!r} is no IP address")
            env = self._environments[now, source] = Environment(
                now=now,
                source_addr=source,
                locks=self._world.locks,
                auth_preference=self._world.auth_preference,
            )
        subject = self._subjects.get(key)
        if subject is None:
            subject = self._subjects[key] = self._world.subject(person, env)
        if at is None:
            _check_timeless(subject.roles, self._world)
        return subject, env


def _check(test: PolicyTest, world: World) -> None:
    """What contradicts itself, or could not fail."""
    if test.user and test.users:
        raise InputError("user and users exclude each other")
    if test.action and test.actions:
        raise InputError("action and actions exclude each other")
    asks = bool(test.action or test.actions)
    if not asks and test.logins is None:
        raise InputError("a test needs an action, or logins", hint="for example action: ssh root@web1")
    if asks and test.expect is None:
        raise InputError("an action needs expect", hint="write expect: allowed, or expect: denied")
    about = ("expect", "by", "because", "needs", "missing", "principals", "labels", "session")
    if not asks:
        for name in about:
            if getattr(test, name):
                raise InputError(f"{name} is about an action, and there is none")
    if test.expect == "allowed" and (test.needs is not None or test.missing):
        raise InputError("needs and missing are for expect: denied")
    if test.expect == "denied" and test.principals:
        raise InputError("principals are for expect: allowed")
    if test.by and test.by not in world.roles and test.by != IMPLICIT_ROLE.name:
        raise InputError(
            f"by: there is no role {test.by[:80]!r}", hint=suggest(test.by, sorted(world.roles)[:1000])
        )
    for name in ("name", "by", "because"):
        if len(getattr(test, name)) > limits.MAX_TEXT:
            raise InputError(f"{name} has at most {limits.MAX_TEXT} characters")


def _check_timeless(roles: Iterable[Role], world: World) -> None:
    """A test whose answer depends on when it runs says when that is."""
    for role in roles:
        if role.spec.allow.when or role.spec.deny.when:
            raise _needs_time(f"role {role.name} counts at some hours only")
    for lock in world.locks:
        if lock.spec.expires or lock.metadata.expires:
            raise _needs_time(f"lock {lock.name} runs out")
    for member in world.members:
        if member.spec.expires:
            raise _needs_time(f"member {member.name} of {member.spec.access_list} leaves the list")


def _needs_time(why: str) -> InputError:
    return InputError(
        f"{why}, and the test does not say when it is",
        hint="add for example at: 2026-01-05T10:00:00Z, here or in defaults",
    )


def _seconds(moment: datetime) -> float:
    if moment.tzinfo is None:
        raise InputError(
            f"at: {moment.isoformat()} names no time zone", hint="end it with Z for UTC, or with +01:00"
        )
    return moment.timestamp()
