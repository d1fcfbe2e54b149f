"""Outcomes of policy tests as text for people, as JSON and as JUnit XML for machines. Whatever came from a
file is inert in all of them.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import groupby
from typing import Any

from pkgs.common.access.policytests.run import Outcome
from pkgs.common.output import jsonout
from pkgs.common.output.sanitize import inert

_XML = str.maketrans({"&": "&amp;", "<": "&lt;", ">": "&gt;", '"': "&quot;", "'": "&apos;"})


def text(outcomes: Iterable[Outcome], *, verbose: bool = False, failures_only: bool = False) -> Iterator[str]:
    """A line for each test; a failure with the explanation of `tctl access explain`."""
    for outcome in outcomes:
        case = outcome.case
        place = f"{case.place.source}:{case.place.line}" if case.place.line else case.place.source
        if not outcome.passed or not failures_only:
            yield f"{'ok  ' if outcome.passed else 'FAIL'} {inert(place)} {inert(case.name)}\n"
        if not outcome.passed:
            yield from (f"       {inert(line)}\n" for line in (*outcome.problems, *_story(outcome)))
        elif verbose and outcome.decision is not None:
            yield from (f"       {inert(reason)}\n" for reason in outcome.decision.reasons)


def summary(outcomes: Sequence[Outcome], seconds: float) -> str:
    """How many there were, and how many failed."""
    failed = sum(not outcome.passed for outcome in outcomes)
    tests = "1 test" if len(outcomes) == 1 else f"{len(outcomes)} tests"
    return f"{tests}: {len(outcomes) - failed} passed, {failed} failed ({seconds:.2f} s)\n"


def _story(outcome: Outcome) -> list[str]:
    return outcome.told.lines() if outcome.told is not None else []


def json(outcomes: Iterable[Outcome]) -> str:
    """A list, one object a test."""
    return jsonout.dumps([_plain(outcome) for outcome in outcomes])


def _plain(outcome: Outcome) -> dict[str, Any]:
    case, decision = outcome.case, outcome.decision
    plain: dict[str, Any] = {
        "file": case.place.source,
        "line": case.place.line,
        "name": case.name,
        "user": case.user,
        "action": case.text,
        "expect": case.test.expect or "",
        "passed": outcome.passed,
        "problems": outcome.problems,
        "seconds": round(outcome.seconds, 6),
    }
    if decision is not None:
        plain["allowed"] = decision.allowed
        plain["reasons"] = decision.reasons
        plain["needs"] = decision.needs
        plain["principals"] = dict(decision.principals)
    if outcome.told is not None:
        plain["explanation"] = outcome.told
    return plain


def junit(outcomes: Sequence[Outcome], seconds: float) -> str:
    """JUnit XML: a suite for each file. Valid XML 1.0 whatever the files hold: what cannot be shown is
    written as its escape."""
    failed = sum(not outcome.passed for outcome in outcomes)
    told = [
        '<?xml version="1.0" encoding="UTF-8"?>\n',
        f'<testsuites name="tctl access test" tests="{len(outcomes)}" failures="{failed}" errors="0"'
        f' time="{seconds:.3f}">\n',
    ]
    for source, group in groupby(outcomes, key=lambda outcome: outcome.case.place.source):
        told += _suite(source, list(group))
    told.append("</testsuites>\n")
    return "".join(told)


def _suite(source: str, outcomes: Sequence[Outcome]) -> Iterator[str]:
    failed = sum(not outcome.passed for outcome in outcomes)
    seconds = sum(outcome.seconds for outcome in outcomes)
    yield (
        f'  <testsuite name="{_xml(source)}" tests="{len(outcomes)}" failures="{failed}" errors="0"'
        f' skipped="0" time="{seconds:.6f}">\n'
    )
    for outcome in outcomes:
        case = outcome.case
        yield (
            f'    <testcase name="{_xml(case.name)}" classname="{_xml(source)}" time="{outcome.seconds:.6f}"'
        )
        if outcome.passed:
            yield "/>\n"
            continue
        message = _xml("; ".join(outcome.problems))
        story = "\n".join(_xml(line) for line in (f"{source}:{case.place.line}", *_story(outcome)))
        yield f'>\n      <failure message="{message}" type="policy">{story}</failure>\n    </testcase>\n'
    yield "  </testsuite>\n"


def _xml(value: str) -> str:
    return inert(value).translate(_XML)
