"""What hours of roles mean for a certificate, which is read later by services that do not know them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from pkgs.common.access.matching.circumstances import compile_circumstances
from pkgs.common.access.matching.traits import Traits
from pkgs.common.access.options.merge import refusing, serving
from pkgs.common.access.options.principals import logins_for
from pkgs.common.access.types import Environment
from pkgs.common.errors import DeniedError
from pkgs.common.resources.role import Role

_MAX_CHANGES = 50
"""Changes of hours that are looked ahead; a certificate ends at the last one rather than look further."""


def logins_at(roles: Sequence[Role], traits: Traits, ttl_s: float, env: Environment) -> tuple[str, ...]:
    """OS logins for a certificate of this life by the roles whose sides count now and from here. DeniedError
    when some role would give one, but not for so long. Raises InputError."""
    return logins_for(roles, traits, ttl_s, serving(env), refusing(env))


def logins_until(
    roles: Sequence[Role], traits: Traits, ttl_s: float, env: Environment, *, horizon_s: float
) -> float:
    """The moment at which the hours of roles take away a login that they give now: a certificate that names
    it must not live longer. Infinity: not before `horizon_s` from now. Raises InputError."""
    timed = [
        found
        for role in roles
        for side, conditions in (("allow", role.spec.allow), ("deny", role.spec.deny))
        if conditions.when and (found := compile_circumstances(conditions, side)) is not None
    ]
    if not timed:
        return float("inf")
    current = set(_found(roles, traits, ttl_s, env))
    moment = env.now
    for _ in range(_MAX_CHANGES):
        moment = min(side.until(moment) for side in timed)
        if moment >= env.now + horizon_s:
            return float("inf")
        if not current <= set(_found(roles, traits, ttl_s, replace(env, now=moment))):
            return moment
    return moment


def _found(roles: Sequence[Role], traits: Traits, ttl_s: float, env: Environment) -> tuple[str, ...]:
    try:
        return logins_at(roles, traits, ttl_s, env)
    except DeniedError:
        return ()
