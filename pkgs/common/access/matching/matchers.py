"""Lists of matchers: which roles or users an entry means. For access requests, reviews, impersonation and
joining sessions.

An entry is a plain name, a glob, a `^regular expression$`, or `{{regexp.match("..")}}` and
`{{regexp.not_match("..")}}` with text around it if wanted. Those two take a regular expression as it is:
without anchors it is sought anywhere. Where a list may also hold templates, traits are given; what comes
out of one is a plain name in allow, never a pattern (attack A25); in deny it may be one, which can only
refuse more.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from pkgs.common.access.matching import patterns
from pkgs.common.access.matching.traits import MAX_TEMPLATE_LENGTH, Traits, expand
from pkgs.common.errors import InputError

Test = Callable[[str], bool]
_CALL = re.compile(
    r"\s*regexp\.(?P<function>match|not_match)\s*\(\s*"
    r'(?:"(?P<quoted>(?:[^"\\]|\\.)*)"|`(?P<raw>[^`]*)`)\s*\)\s*',
    re.DOTALL,
)
_ESCAPE = re.compile(r'\\(["\\])')
_HINT = 'a name, a glob, ^expression$, {{regexp.match("..")}} or {{regexp.not_match("..")}}'


@dataclass(frozen=True, slots=True)
class Matcher:
    """A list of matchers: a text matches when any of them does. The empty text matches nothing."""

    exact: frozenset[str]
    tests: tuple[Test, ...]

    def matches(self, text: str) -> bool:
        if not text:
            return False
        return text in self.exact or any(test(text) for test in self.tests)

    def __bool__(self) -> bool:
        """Whether there are any."""
        return bool(self.exact or self.tests)


def compile_matcher(entries: Iterable[str], traits: Traits | None = None, *, deny: bool = False) -> Matcher:
    """Raises InputError for an entry that is not understood. Without `traits` a template is none of those."""
    exact: set[str] = set()
    tests: list[Test] = []
    for entry in entries:
        call = _call(entry)
        if call is not None:
            tests.append(call)
            continue
        for value, from_trait in _values(entry, traits):
            if (from_trait and not deny) or not patterns.is_pattern(value):
                exact.add(value)
            else:
                tests.append(_test(patterns.compile_pattern(value)))
    return Matcher(frozenset(exact), tuple(tests))


def allows(allow: Matcher, deny: Matcher, text: str) -> bool:
    """Some allow matches and no deny does."""
    return not deny.matches(text) and allow.matches(text)


def _values(entry: str, traits: Traits | None) -> Iterable[tuple[str, bool]]:
    """Each value, and whether it comes out of a trait."""
    if "{{" not in entry and "}}" not in entry:
        return [(entry, False)]
    if traits is None:
        raise InputError(f"{entry[:100]!r} is not a matcher", hint=_HINT)
    return [(value, True) for value in expand(entry, traits).values]


def _test(pattern: Any) -> Test:
    return lambda text: pattern.search(text) is not None


def _call(entry: str) -> Test | None:
    """The test of `prefix{{regexp.match("..")}}suffix`; None for any other entry."""
    if entry.count("{{") != 1 or entry.count("}}") != 1 or len(entry) > MAX_TEMPLATE_LENGTH:
        return None
    prefix, _, rest = entry.partition("{{")
    inner, _, suffix = rest.partition("}}")
    found = _CALL.fullmatch(inner)
    if found is None:
        return None
    source = found["raw"] if found["raw"] is not None else _ESCAPE.sub(r"\1", found["quoted"])
    pattern = patterns.compile_regex(source)
    wanted = found["function"] == "match"

    def test(text: str) -> bool:
        if len(text) < len(prefix) + len(suffix) or not (text.startswith(prefix) and text.endswith(suffix)):
            return False
        middle = text[len(prefix) : len(text) - len(suffix)]
        return (pattern.search(middle) is not None) is wanted

    return test
