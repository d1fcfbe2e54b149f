"""Ask `decide`, compare with what is expected, and tell the whole story where they differ."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

from pkgs.common.access.decide import decide
from pkgs.common.access.explaining.explain import Explained, explain, told
from pkgs.common.access.policytests.document import PolicyTest
from pkgs.common.access.policytests.suite import Case, Suite
from pkgs.common.access.protocols.dbpolicy import terms
from pkgs.common.access.types import Decision, Subject, Target
from pkgs.common.resources.defaults import IMPLICIT_ROLE


@dataclass(frozen=True, slots=True)
class Outcome:
    case: Case
    decision: Decision | None
    """None: no action was asked about."""
    problems: tuple[str, ...]
    """Each expectation that was not met; none: the test passed."""
    told: Explained | None
    """Of a test about an action that failed."""
    seconds: float

    @property
    def passed(self) -> bool:
        return not self.problems


def run(suite: Suite, clock: Callable[[], float]) -> Iterator[Outcome]:
    """The outcome of each case, in order. `clock`: seconds, to measure how long each takes."""
    for case in suite.cases:
        began = clock()
        problems = list(_logins(case))
        decision = story = None
        if case.target is not None:
            decision = decide(case.subject, case.target, case.env)
            problems += _compare(case, case.target, decision)
            if problems:
                found = explain(case.subject, case.target, case.env)
                story = told(found, case.subject, case.text)
        yield Outcome(case, decision, tuple(problems), story, clock() - began)


def _logins(case: Case) -> Iterator[str]:
    if case.test.logins is not None:
        yield from _same("logins", case.test.logins, case.subject.identity.logins)


def _compare(case: Case, target: Target, decision: Decision) -> Iterator[str]:
    test = case.test
    verdict = "allowed" if decision else "denied"
    if verdict != test.expect:
        yield f"expected {test.expect}, found {verdict}"
    elif test.by and not _is_by(case, target, decision, test.by):
        yield f"expected to be {verdict} by role {test.by}"
    if test.because and not any(test.because in reason for reason in decision.reasons):
        yield f"expected because {test.because!r}"
    if test.needs is not None:
        yield from _same("needs", test.needs, decision.needs)
    found = terms(decision)
    for field, wanted in test.principals.items():
        yield from _same(field, wanted, found.get(field, ()))
    if test.missing:
        yield from _missing(case, target, test)


def _is_by(case: Case, target: Target, decision: Decision, name: str) -> bool:
    """Whether the role decides it, alone or among others: where several would, which of them is named
    depends on their order."""
    begin = f"role {name}: "
    if any(reason.startswith(begin) for reason in decision.reasons):
        return True
    roles = tuple(role for role in case.subject.roles if role.name == name)
    if not roles and name != IMPLICIT_ROLE.name:
        return False
    alone = decide(Subject(case.subject.identity, roles), target, case.env)
    return alone.allowed is decision.allowed and any(reason.startswith(begin) for reason in alone.reasons)


def _missing(case: Case, target: Target, test: PolicyTest) -> Iterator[str]:
    steps = [str(step) for step in explain(case.subject, target, case.env).missing]
    for wanted in test.missing:
        if not any(wanted in step for step in steps):
            yield f"expected to miss {wanted!r}"


def _same(what: str, wanted: Iterable[str], found: Iterable[str]) -> Iterator[str]:
    expected, actual = sorted(set(wanted)), sorted(set(found))
    if expected != actual:
        yield f"expected {what} {', '.join(expected) or 'none'}, found {', '.join(actual) or 'none'}"
