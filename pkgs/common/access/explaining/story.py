"""The parts of a story: what roles say, what is demanded, and what is missing."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from pkgs.common.access.types import Decision


@dataclass(frozen=True, slots=True)
class Missing:
    """One step towards a yes."""

    change: Literal["add", "remove", "meet"]
    """Add to an allow, remove from a deny, or meet a condition that no role can lift."""
    role: str
    """Empty: any role of the user, a new one for example; or no matter of roles."""
    field: str
    value: str


@dataclass(frozen=True, slots=True)
class Finding:
    """What one role says."""

    role: str
    effect: Literal["allows", "denies", "lacks"]
    text: str


@dataclass(frozen=True, slots=True)
class Story:
    findings: tuple[Finding, ...]
    conditions: tuple[str, ...]
    missing: tuple[Missing, ...]


def step_of(bar: Decision) -> Missing:
    return Missing("meet", "", "", "; ".join(bar.reasons))
