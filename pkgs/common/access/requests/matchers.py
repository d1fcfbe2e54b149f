"""Which role names an entry of `request.roles` or `review_requests.roles` means.

Plain text, glob, `^regular expression$`, `{{regexp.match("re")}}`, `{{regexp.not_match("re")}}`. Whether the
`re` of the functions must match the whole name is read both ways in the field: `surely` is true by the
narrower reading and is what grants, `possibly` is true by the wider one and is what refuses.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import re2

from pkgs.common.access.matching import patterns
from pkgs.common.access.matching.traits import Traits, regexp_replace
from pkgs.common.errors import InputError
from pkgs.common.resources.role import ClaimToRoles

_CALL = re.compile(
    r"\s*regexp\.(?P<function>match|not_match)\(\s*(?:\"(?P<quoted>(?:[^\"\\]|\\.)*)\"|`(?P<raw>[^`]*)`)\s*\)\s*"
)
_CAPTURE = re.compile(r"\$[0-9A-Za-z_{]")
_ESCAPE = re.compile(r'\\(["\\])')
_options = re2.Options()
_options.log_errors = False
_options.max_mem = 1 << 20


@dataclass(frozen=True, slots=True)
class RoleMatcher:
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
        if regex is None:
            return name == self.text
        if len(name) < len(self.prefix) + len(self.suffix):
            return False
        if not name.startswith(self.prefix) or not name.endswith(self.suffix):
            return False
        inner = name[len(self.prefix) : len(name) - len(self.suffix)]
        return (regex.search(inner) is not None) is not self.negated


@lru_cache(maxsize=4096)
def compile_matcher(text: str) -> RoleMatcher:
    """Raises InputError for what is not understood."""
    if "{{" in text or "}}" in text:
        return _compile_function(text)
    if not patterns.is_pattern(text):
        return RoleMatcher(patterns.checked(text))
    regex = patterns.compile_pattern(text)
    return RoleMatcher(text, whole=regex, part=regex)


def compile_matchers(texts: Iterable[str]) -> tuple[RoleMatcher, ...]:
    return tuple(compile_matcher(text) for text in texts)


def _compile_function(text: str) -> RoleMatcher:
    patterns.checked(text)
    prefix, opening, rest = text.partition("{{")
    inner, closing, suffix = rest.rpartition("}}")
    call = _CALL.fullmatch(inner) if opening and closing else None
    if call is None or "{{" in inner or "{{" in suffix:
        raise InputError(
            f"{text!r} is not a pattern for roles",
            hint='allowed: name, glob*, ^re$, {{regexp.match("re")}}, {{regexp.not_match("re")}}',
        )
    source = call["raw"] if call["quoted"] is None else _ESCAPE.sub(r"\1", call["quoted"])
    try:
        part = re2.compile(source, _options)
        whole = re2.compile(rf"\A(?:{source})\z", _options)
    except re2.error as error:
        raise InputError(f"regular expression {source!r} is not valid", detail=str(error)) from error
    return RoleMatcher(
        text,
        prefix=prefix.lstrip(),
        suffix=suffix.rstrip(),
        whole=whole,
        part=part,
        negated=call["function"] == "not_match",
    )


def check_claims(mappings: Sequence[ClaimToRoles]) -> None:
    """Raises InputError for what `claim_matchers` could not use, whatever the traits are."""
    for mapping in mappings:
        _with_captures(mapping.value)
        for role in mapping.roles:
            if not _CAPTURE.search(role):
                compile_matcher(role)
            elif patterns.is_pattern(role) or "{{" in role:
                raise InputError(
                    f"claims_to_roles: {role!r} has a capture and is a pattern", hint="write one or the other"
                )


def claim_matchers(mappings: Sequence[ClaimToRoles], traits: Traits) -> tuple[RoleMatcher, ...]:
    """What `claims_to_roles` stands for with these traits. A name with a capture in it is taken literally:
    a trait never becomes a pattern (attack A25)."""
    check_claims(mappings)
    found: dict[RoleMatcher, None] = {}
    for mapping in mappings:
        value_pattern = _with_captures(mapping.value)
        for value in traits.get(mapping.claim, ()):
            if not value_pattern.search(value):
                continue
            for role in mapping.roles:
                if _CAPTURE.search(role):
                    names = regexp_replace([value], value_pattern, role)
                    found |= dict.fromkeys(RoleMatcher(name) for name in names if name)
                else:
                    found[compile_matcher(role)] = None
    return tuple(found)


@lru_cache(maxsize=1024)
def _with_captures(text: str) -> Any:
    """Like every pattern of a role, but each `*` of a glob can be named as `$1`, `$2`, ..."""
    patterns.checked(text)
    if "*" not in text or (text.startswith("^") and text.endswith("$")):
        return patterns.compile_pattern(text)
    source = r"(?s)\A" + "(.*)".join(re2.escape(part) for part in text.split("*")) + r"\z"
    return re2.compile(source, _options)
