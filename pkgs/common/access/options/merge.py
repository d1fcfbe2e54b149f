"""What the merges of all areas share."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence

from pkgs.common.access.matching.circumstances import compile_circumstances
from pkgs.common.access.matching.traits import Traits
from pkgs.common.access.protocols.grants import Protocol, compile_grant
from pkgs.common.access.types import Environment
from pkgs.common.errors import InputError
from pkgs.common.resources.durations import parse_duration
from pkgs.common.resources.role import Role

InForce = Callable[[Role], bool]
"""Whether the conditions of a role (times, networks) hold now. Asked before a role grants, never before it
restricts."""


def always(role: Role) -> bool:
    return True


def serving(env: Environment) -> InForce:
    """The roles whose allow side counts now and from here; one that is not understood does not."""

    def in_force(role: Role) -> bool:
        try:
            found = compile_circumstances(role.spec.allow, "allow")
        except InputError:
            return False
        return found is None or found.hold(env.now, env.source_addr, unknown=False)

    return in_force


def refusing(env: Environment) -> InForce:
    """The roles whose deny side counts now and from here; one that is not understood does."""

    def in_force(role: Role) -> bool:
        try:
            found = compile_circumstances(role.spec.deny, "deny")
        except InputError:
            return True
        return found is None or found.hold(env.now, env.source_addr, unknown=True)

    return in_force


def smallest(values: Iterable[float]) -> float:
    """The smallest of those that are set; 0 when none is."""
    return min((value for value in values if value > 0), default=0)


def shortest(durations: Iterable[str]) -> float:
    """Seconds of the shortest duration that is set; 0 when none is."""
    return smallest(parse_duration(text) for text in durations)


def by_name(roles: Iterable[Role]) -> list[Role]:
    """Where the later of two wins, or the first: an order that nobody chooses by chance."""
    return sorted(roles, key=lambda role: role.name)


def selects(
    role: Role, protocol: Protocol, labels: Mapping[str, str], traits: Traits, *, deny: bool = False
) -> bool:
    """Whether one side of a role names what has these labels. Raises InputError."""
    grant = compile_grant(role, protocol, traits, None, None)
    return bool(grant.refusal(labels)) if deny else grant.selects(labels)


def subtracts(role: Role, protocol: Protocol, labels: Mapping[str, str], traits: Traits) -> bool:
    """Whether what a role denies beside labels (groups, sudoers) counts for what has these labels: it does
    everywhere, as a denied login does; where its deny names labels, for what either side names. Raises
    InputError."""
    deny = role.spec.deny
    if not (getattr(deny, protocol.labels) or getattr(deny, protocol.expression)):
        return True
    return selects(role, protocol, labels, traits) or selects(role, protocol, labels, traits, deny=True)


def granting(roles: Sequence[Role], in_force: InForce) -> list[Role]:
    return [role for role in roles if in_force(role)]
