"""Database accounts made for a session. Such an account has the name of the platform's user."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from pkgs.common.access.options.merge import InForce, always, granting, selects, subtracts
from pkgs.common.access.traits import Traits, expand
from pkgs.common.errors import DeniedError
from pkgs.common.resources.role import Role, RoleOptions

FIELD = "db_labels"
DbUserMode = Literal["off", "keep", "best_effort_drop"]
_MODES: tuple[DbUserMode, ...] = ("off", "keep", "best_effort_drop")


@dataclass(frozen=True, slots=True)
class DbUser:
    mode: DbUserMode
    roles: tuple[str, ...] = ()
    """Roles in the database that the account may be given."""


def db_user(
    roles: Sequence[Role], labels: Mapping[str, str], traits: Traits, in_force: InForce = always
) -> DbUser:
    """Over the roles that match the database's labels: the highest of off, keep, best_effort_drop. Those
    that enable it give their `db_roles`, minus what is denied. Raises InputError."""
    matching = [role for role in granting(roles, in_force) if selects(role, FIELD, labels, traits)]
    giving = [role for role in matching if _mode(role.spec.options) != "off"]
    if not giving:
        return DbUser("off")
    denying = [role for role in roles if subtracts(role, FIELD, labels, traits)]
    denied = _expanded((entry for role in denying for entry in role.spec.deny.db_roles), traits)
    allowed = _expanded((entry for role in giving for entry in role.spec.allow.db_roles), traits)
    fit = () if "*" in denied else sorted(name for name in allowed - denied if name.isprintable())
    return DbUser(
        mode=max((_mode(role.spec.options) for role in giving), key=_MODES.index),
        roles=tuple(name for name in fit if name != "*"),
    )


def chosen_db_roles(user: DbUser, asked: Sequence[str]) -> tuple[str, ...]:
    """The roles for this session: all of them, or those that were asked for; DeniedError for any other."""
    if not asked:
        return user.roles
    for name in asked:
        if name not in user.roles:
            raise DeniedError(f"access to the database role {name!r} denied", hint="ask for fewer roles")
    return tuple(sorted(set(asked)))


def _mode(options: RoleOptions) -> DbUserMode:
    """Of one role. The older switch counts where the mode is not set."""
    if not options.create_db_user_mode:
        return "keep" if options.create_db_user else "off"
    return options.create_db_user_mode


def _expanded(entries: Iterable[str], traits: Traits) -> frozenset[str]:
    return frozenset(value for entry in entries for value in expand(entry, traits).values)
