"""Matchers: which roles or users an entry means. For access requests, reviews, impersonation and joining
sessions.

An entry is a plain name, a glob, a `^regular expression$`, or `{{regexp.match("re")}}` and
`{{regexp.not_match("re")}}` with text around it if wanted. Whether the `re` of these two must match the whole
name is read both ways in the field: what grants is true by the narrower reading, what refuses by the wider
one. Where a list may also hold templates, traits are given; what comes out of one is a plain name in allow,
never a pattern (attack A25); in deny it may be one, which can only refuse more.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from pkgs.common.access.matching import patterns
from pkgs.common.access.matching.traits import Traits, expand
from pkgs.common.errors import InputError

_CALL = re.compile(
    r"\s*regexp\.(?P<function>match|not_match)\s*\(\s*"
    r'(?:"(?P<quoted>(?:[^"\\]|\\.)*)"|`(?P<raw>[^`]*)`)\s*\)\s*',
    re.DOTALL,
)
_ESCAPE = re.compile(r'\\(["\\])')
_HINT = 'a name, a glob, ^expression$, {{regexp.match("..")}} or {{regexp.not_match("..")}}'


@dataclass(frozen=True, slots=True)
class Entry:
    """One entry. Without a function it has one reading."""

    text: str
    prefix: str = ""
    suffix: str = ""
    whole: Any = None
    """Must match the whole text between prefix and suffix; None: the entry is plain text."""
    part: Any = None
    """May match anywhere in it."""
    negated: bool = False

    def surely(self, name: str) -> bool:
        """For what grants."""
        return self._matches(name, self.part if self.negated else self.whole)

    def possibly(self, name: str) -> bool:
        """For what refuses."""
        return self._matches(name, self.whole if self.negated else self.part)

    def _matches(self, name: str, regex: Any) -> bool:
        if not name:
            return False
        if regex is None:
            return name == self.text
        if len(name) < len(self.prefix) + len(self.suffix):
            return False
        if not name.startswith(self.prefix) or not name.endswith(self.suffix):
            return False
        inner = name[len(self.prefix) : len(name) - len(self.suffix)]
        return (regex.search(inner) is not None) is not self.negated


@dataclass(frozen=True, slots=True)
class Matcher:
    """A list of entries: a text matches when any of them does. The empty text matches nothing."""

    exact: frozenset[str]
    entries: tuple[Entry, ...]
    refuses: bool = False
    """Of a deny: entries are read the wider way."""

    def matches(self, text: str) -> bool:
        if not text:
            return False
        if text in self.exact:
            return True
        return any(entry.possibly(text) if self.refuses else entry.surely(text) for entry in self.entries)

    def __bool__(self) -> bool:
        """Whether there are any."""
        return bool(self.exact or self.entries)


@lru_cache(maxsize=4096)
def compile_entry(text: str) -> Entry:
    """Raises InputError for what is not understood."""
    if "{{" in text or "}}" in text:
        found = _function(text)
        if found is None:
            raise InputError(f"{text[:100]!r} is not a matcher", hint=_HINT)
        return found
    if not patterns.is_pattern(text):
        return Entry(patterns.checked(text))
    regex = patterns.compile_pattern(text)
    return Entry(text, whole=regex, part=regex)


def compile_matcher(entries: Iterable[str], traits: Traits | None = None, *, deny: bool = False) -> Matcher:
    """Raises InputError for an entry that is not understood. Without `traits` a template is none of those."""
    exact: set[str] = set()
    compiled: list[Entry] = []
    for text in entries:
        if traits is not None and ("{{" in text or "}}" in text) and _function(text) is None:
            for value in expand(text, traits).values:
                if deny and patterns.is_pattern(value):
                    compiled.append(compile_entry(value))
                else:
                    exact.add(value)
            continue
        entry = compile_entry(text)
        if entry.whole is None:
            exact.add(text)
        else:
            compiled.append(entry)
    return Matcher(frozenset(exact), tuple(compiled), deny)


def allows(allow: Matcher, deny: Matcher, text: str) -> bool:
    """Some allow matches and no deny does."""
    return not deny.matches(text) and allow.matches(text)


def _function(text: str) -> Entry | None:
    """`prefix{{regexp.match("..")}}suffix`; None for anything else. InputError for a bad expression."""
    patterns.checked(text)
    prefix, opening, rest = text.partition("{{")
    inner, closing, suffix = rest.rpartition("}}")
    call = _CALL.fullmatch(inner) if opening and closing else None
    if call is None or "{{" in inner or "{{" in suffix:
        return None
    source = call["raw"] if call["quoted"] is None else _ESCAPE.sub(r"\1", call["quoted"])
    return Entry(
        text,
        prefix=prefix.lstrip(),
        suffix=suffix.rstrip(),
        whole=patterns.compile_regex(rf"\A(?:{source})\z"),
        part=patterns.compile_regex(source),
        negated=call["function"] == "not_match",
    )
