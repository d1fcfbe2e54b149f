"""The parts of a story: what roles say, what is demanded, and what is missing. `Explained` is what people and
programs are told.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import msgspec

from pkgs.common.access.protocols.dbpolicy import FIELD as RESTRICTIONS
from pkgs.common.access.types import Decision


class Missing(msgspec.Struct, frozen=True):
    """One step towards a yes."""

    change: Literal["add", "remove", "meet"]
    """Add to an allow, remove from a deny, or meet a condition that no role can lift."""
    role: str
    """Empty: any role of the user, a new one for example; or no matter of roles."""
    field: str
    value: str

    def __str__(self) -> str:
        role = f"role {self.role}" if self.role else "some role"
        if self.change == "add":
            return f"{role}: add to {self.field}: {self.value}"
        if self.change == "remove":
            return f"{role}: remove from {self.field}: {self.value}"
        return f"role {self.role}: {self.value}" if self.role else self.value


class Finding(msgspec.Struct, frozen=True):
    """What one role says."""

    role: str
    effect: Literal["allows", "denies", "lacks"]
    text: str


class Explained(msgspec.Struct, frozen=True, kw_only=True):
    """A decision with its story."""

    allowed: bool
    user: str
    roles: list[str]
    action: str
    """`ssh root@web1`, `resource role update`."""
    resource_id: str = ""
    """Of a server its host id, of others the name."""
    reasons: list[str]
    """By which role and field it was decided."""
    findings: list[Finding]
    conditions: list[str]
    principals: dict[str, list[str]] = {}
    """Of a yes, what is granted beyond it: Kubernetes users and groups, roles of a made database user, its
    permissions on objects; as `db`, what a database session is held to."""
    missing: list[Missing]
    """The smallest set of steps to a yes; empty when allowed."""

    def lines(self) -> list[str]:
        """The story in words, a line each. It came from outside: whoever prints it makes it inert."""
        told = [f"{'allowed' if self.allowed else 'denied'}: {self.user}, {self.action}"]
        told += [f"  {reason}" for reason in self.reasons]
        told.append(f"roles of {self.user}: {', '.join(self.roles) or 'none'}")
        told += [f"  role {finding.role} {finding.text}" for finding in self.findings]
        for name, values in self.principals.items():
            verb = "restricts" if name == RESTRICTIONS else "grants"
            told.append(f"{verb} {name}: {', '.join(values) or 'none'}")
        for title, parts in (("conditions:", self.conditions), ("missing:", self.missing)):
            told += [title, *(f"  {part}" for part in parts)] if parts else []
        return told


@dataclass(frozen=True, slots=True)
class Story:
    findings: tuple[Finding, ...]
    conditions: tuple[str, ...]
    missing: tuple[Missing, ...]


def step_of(bar: Decision) -> Missing:
    return Missing("meet", "", "", "; ".join(bar.reasons))
