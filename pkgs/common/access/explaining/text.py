"""An explanation as lines of text, the same for `tctl access explain` and for a policy test that fails.

Nothing is made inert here: each line is for whoever prints it to make so.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol


class StepLike(Protocol):
    """A step towards a yes, here or as it came over the wire."""

    @property
    def change(self) -> str: ...
    @property
    def role(self) -> str: ...
    @property
    def field(self) -> str: ...
    @property
    def value(self) -> str: ...


class FindingLike(Protocol):
    """What one role says."""

    @property
    def role(self) -> str: ...
    @property
    def text(self) -> str: ...


class Told(Protocol):
    """An explanation with what it is about."""

    @property
    def allowed(self) -> bool: ...
    @property
    def user(self) -> str: ...
    @property
    def action(self) -> str: ...
    @property
    def roles(self) -> Sequence[str]: ...
    @property
    def reasons(self) -> Sequence[str]: ...
    @property
    def findings(self) -> Sequence[FindingLike]: ...
    @property
    def conditions(self) -> Sequence[str]: ...
    @property
    def principals(self) -> Mapping[str, Sequence[str]]: ...
    @property
    def missing(self) -> Sequence[StepLike]: ...


def lines(found: Told) -> list[str]:
    """Verdict and reasons, what each role says, what is demanded, what is missing."""
    verdict = "allowed" if found.allowed else "denied"
    told = [f"{verdict}: {found.user}, {found.action}"]
    told += [f"  {reason}" for reason in found.reasons]
    told.append(f"roles of {found.user}: {', '.join(found.roles) or 'none'}")
    told += [f"  role {finding.role} {finding.text}" for finding in found.findings]
    for name, values in found.principals.items():
        told.append(f"grants {name}: {', '.join(values) or 'none'}")
    if found.conditions:
        told.append("conditions:")
        told += [f"  {condition}" for condition in found.conditions]
    if found.missing:
        told.append("missing:")
        told += [f"  {step_text(step)}" for step in found.missing]
    return told


def step_text(step: StepLike) -> str:
    """`role dev: add to allow.logins: root`."""
    role = f"role {step.role}" if step.role else "some role"
    if step.change == "add":
        return f"{role}: add to {step.field}: {step.value}"
    if step.change == "remove":
        return f"{role}: remove from {step.field}: {step.value}"
    return f"role {step.role}: {step.value}" if step.role else step.value
