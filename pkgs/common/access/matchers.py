"""Matchers of names: literals, globs, `^regex$`, templates of traits, `{{regexp.match("...")}}`.

In allow a value that came from a trait is compared literally, so that no trait brings a wildcard (attack
A25); in deny it may be a pattern, which can only refuse more.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, NamedTuple

from pkgs.common.access import patterns
from pkgs.common.access.traits import MAX_TEMPLATE_LENGTH, Traits, expand
from pkgs.common.errors import InputError

_CALL = re.compile(
    r"""\s*regexp\.(?P<name>match|not_match)\(\s*(?:"(?P<text>(?:[^"\\]|\\.)*)"|`(?P<raw>[^`]*)`)\s*\)\s*""",
    re.DOTALL,
)
_ESCAPED = re.compile(r'\\(["\\])')


class _Middle(NamedTuple):
    """prefix + what the pattern matches (or does not match) + suffix."""

    prefix: str
    pattern: Any
    wanted: bool
    suffix: str

    def matches(self, name: str) -> bool:
        if len(name) < len(self.prefix) + len(self.suffix):
            return False
        if not (name.startswith(self.prefix) and name.endswith(self.suffix)):
            return False
        middle = name[len(self.prefix) : len(name) - len(self.suffix)]
        return bool(self.pattern.search(middle)) is self.wanted


@dataclass(frozen=True, slots=True)
class Matcher:
    """Any of: exact names, patterns. Made of nothing, it matches nothing."""

    exact: frozenset[str]
    compiled: tuple[Any, ...]
    middles: tuple[_Middle, ...]

    def matches(self, name: str) -> bool:
        return (
            name in self.exact
            or any(pattern.search(name) for pattern in self.compiled)
            or any(middle.matches(name) for middle in self.middles)
        )

    def __bool__(self) -> bool:
        return bool(self.exact or self.compiled or self.middles)


def compile_matcher(entries: Iterable[str], traits: Traits, *, deny: bool = False) -> Matcher:
    """Raises InputError for an entry that is not understood. An entry whose trait is missing is left out."""
    exact: set[str] = set()
    compiled: list[Any] = []
    middles: list[_Middle] = []
    for entry in entries:
        middle = _middle(entry)
        if middle is not None:
            middles.append(middle)
            continue
        expanded = expand(entry, traits)
        for value in expanded.values:
            if patterns.is_pattern(value) and (deny or not expanded.from_trait):
                compiled.append(patterns.compile_pattern(value))
            else:
                exact.add(value)
    return Matcher(frozenset(exact), tuple(compiled), tuple(middles))


def _middle(entry: str) -> _Middle | None:
    """The form with a function that matches; None for any other form."""
    prefix, opened, rest = entry.partition("{{")
    inner, closed, suffix = rest.partition("}}")
    if not opened or not inner.strip().startswith(("regexp.match", "regexp.not_match")):
        return None
    if len(entry) > MAX_TEMPLATE_LENGTH:
        raise InputError(f"template is longer than {MAX_TEMPLATE_LENGTH} characters")
    found = _CALL.fullmatch(inner)
    if not closed or found is None or "{{" in suffix or "}}" in suffix:
        raise InputError(
            f"template {entry!r} does not parse",
            hint='write {{regexp.match("pattern")}} or {{regexp.not_match("pattern")}}',
        )
    raw = found["raw"]
    pattern = raw if raw is not None else _ESCAPED.sub(r"\1", found["text"])
    return _Middle(
        prefix.lstrip(), patterns.compile_pattern(pattern), found["name"] == "match", suffix.rstrip()
    )
