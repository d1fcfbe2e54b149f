"""What the merges of all areas share."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence

from pkgs.common.access.contexts.labelexpr import compile_label_expression
from pkgs.common.access.labels import compile_selector
from pkgs.common.access.roleset import applies_here
from pkgs.common.access.traits import Traits
from pkgs.common.errors import InputError
from pkgs.common.resources.durations import parse_duration
from pkgs.common.resources.role import Role

InForce = Callable[[Role], bool]
"""Whether the conditions of a role (times, networks) hold now. Asked before a role grants, never before it
restricts."""


def always(role: Role) -> bool:
    return True


def smallest(values: Iterable[float]) -> float:
    """The smallest of those that are set; 0 when none is."""
    return min((value for value in values if value > 0), default=0)


def shortest(durations: Iterable[str]) -> float:
    """Seconds of the shortest duration that is set; 0 when none is."""
    return smallest(parse_duration(text) for text in durations)


def by_name(roles: Iterable[Role]) -> list[Role]:
    """Where the later of two wins, or the first: an order that nobody chooses by chance."""
    return sorted(roles, key=lambda role: role.name)


def selects(role: Role, field: str, labels: Mapping[str, str], traits: Traits, *, deny: bool = False) -> bool:
    """Whether one side of a role names what has these labels, by `field` (`node_labels`, ...) and its
    expression: both where both are set in allow, either one in deny. Raises InputError."""
    side = role.spec.deny if deny else role.spec.allow
    selector, text = getattr(side, field), getattr(side, f"{field}_expression")
    found = []
    if selector:
        found.append(compile_selector(selector, traits, deny=deny).matches(labels))
    if text:
        try:
            found.append(compile_label_expression(text, traits, deny=deny)(labels))
        except InputError as error:
            where = f"{'deny' if deny else 'allow'}.{field}_expression"
            raise InputError(f"role {role.name}: {where}: {error.message}") from None
    if deny:
        return any(found)
    return bool(found) and all(found) and applies_here(role.spec.allow)


def subtracts(role: Role, field: str, labels: Mapping[str, str], traits: Traits) -> bool:
    """Whether what a role denies beside labels (groups, sudoers, database roles) counts for what has these
    labels: where either of its sides names it, and everywhere when neither side names anything. So a role of
    nothing but `deny: {host_sudoers: ['*']}` is heeded."""
    sides = (role.spec.allow, role.spec.deny)
    if not any(getattr(side, name) for side in sides for name in (field, f"{field}_expression")):
        return True
    return selects(role, field, labels, traits) or selects(role, field, labels, traits, deny=True)


def granting(roles: Sequence[Role], in_force: InForce) -> list[Role]:
    return [role for role in roles if in_force(role)]
