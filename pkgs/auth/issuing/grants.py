"""What a set of roles gives to a certificate, worked out once for the many that have the same."""

from __future__ import annotations

from typing import NamedTuple

from pkgs.auth import limits
from pkgs.common.access.options import SessionOptions, merge_options
from pkgs.common.access.options.hours import logins_at
from pkgs.common.access.options.login import cert_extensions
from pkgs.common.access.options.merge import refusing, serving
from pkgs.common.access.types import Environment
from pkgs.common.resources.role import Role


class Grants(NamedTuple):
    """What a set of roles gives with these traits."""

    options: SessionOptions
    logins: tuple[str, ...]
    extensions: dict[str, str]
    """Custom ones of the SSH certificate."""


_grants: dict[tuple[object, ...], tuple[tuple[Role, ...], Grants]] = {}


def grants_of(roles: tuple[Role, ...], traits: dict[str, tuple[str, ...]], env: Environment) -> Grants:
    """Worked out once while these very roles are in use: thousands of logins share a few combinations.

    Logins and extensions come from the roles that count now and from here: for whatever reads them later may
    ask nobody. An entry holds its roles, so that an id is never taken over by another object. The logins are
    those for a life that every role allows; a certificate's life is cut to that before its logins are set."""
    counting = (tuple(map(serving(env), roles)), tuple(map(refusing(env), roles)))
    key = (*map(id, roles), counting, *sorted(traits.items()))
    found = _grants.get(key)
    if found is None:
        options = merge_options(roles, in_force=serving(env))
        life = min(options.max_session_ttl_s, limits.MIN_TTL_S)
        logins = logins_at(roles, traits, life, env)
        extensions = cert_extensions(roles, traits, serving(env))
        found = (roles, Grants(options, logins, extensions))
        if len(_grants) >= limits.GRANTS_REMEMBERED:
            _grants.clear()
        _grants[key] = found
    return found[1]
