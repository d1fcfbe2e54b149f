"""`claims_to_roles`: the roles that somebody's traits let them ask for, or review."""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import lru_cache
from typing import Any

from pkgs.common.access.matching import patterns
from pkgs.common.access.matching.matchers import Entry, compile_entry
from pkgs.common.access.matching.traits import Traits, regexp_replace
from pkgs.common.errors import InputError
from pkgs.common.resources.role import ClaimToRoles

_CAPTURE = re.compile(r"\$[0-9A-Za-z_{]")


def check_claims(mappings: Sequence[ClaimToRoles]) -> None:
    """Raises InputError for what `claim_matchers` could not use, whatever the traits are."""
    for mapping in mappings:
        _with_captures(mapping.value)
        for role in mapping.roles:
            if not _CAPTURE.search(role):
                compile_entry(role)
            elif patterns.is_pattern(role) or "{{" in role:
                raise InputError(
                    f"claims_to_roles: {role!r} has a capture and is a pattern", hint="write one or the other"
                )


def claim_matchers(mappings: Sequence[ClaimToRoles], traits: Traits) -> tuple[Entry, ...]:
    """What `claims_to_roles` stands for with these traits. A name with a capture in it is taken literally:
    a trait never becomes a pattern (attack A25)."""
    check_claims(mappings)
    found: dict[Entry, None] = {}
    for mapping in mappings:
        value_pattern = _with_captures(mapping.value)
        for value in traits.get(mapping.claim, ()):
            if not value_pattern.search(value):
                continue
            for role in mapping.roles:
                if _CAPTURE.search(role):
                    names = regexp_replace([value], value_pattern, role)
                    found |= dict.fromkeys(Entry(name) for name in names if name)
                else:
                    found[compile_entry(role)] = None
    return tuple(found)


@lru_cache(maxsize=1024)
def _with_captures(text: str) -> Any:
    """Like every pattern of a role, but each `*` of a glob can be named as `$1`, `$2`, ..."""
    patterns.checked(text)
    if "*" not in text or (text.startswith("^") and text.endswith("$")):
        return patterns.compile_pattern(text)
    source = r"(?s)\A" + "(.*)".join(re.escape(part) for part in text.split("*")) + r"\z"
    return patterns.compile_regex(source)
