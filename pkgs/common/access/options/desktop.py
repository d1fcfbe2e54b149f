"""Sessions on desktops, and the local accounts made for them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from pkgs.common.access.matching.traits import Traits, expand
from pkgs.common.access.options.merge import InForce, always, granting, selects, subtracts
from pkgs.common.access.protocols.desktop import PROTOCOL, valid_login
from pkgs.common.resources.role import Role


@dataclass(frozen=True, slots=True)
class DesktopOptions:
    clipboard: bool
    directory_sharing: bool
    record: bool
    create_user: bool
    groups: tuple[str, ...]
    """Local groups of a created account."""


def desktop_options(
    roles: Sequence[Role], labels: Mapping[str, str], traits: Traits, in_force: InForce = always
) -> DesktopOptions:
    """Clipboard and directory sharing: all roles. Recording: any role. An account is made when all roles that
    match the desktop's labels say so; its groups are theirs minus what is denied. Raises InputError."""
    options = [role.spec.options for role in roles]
    some = bool(granting(roles, in_force))
    matching = [role for role in roles if selects(role, PROTOCOL, labels, traits)]
    giving = granting(matching, in_force)
    create = bool(giving) and all(role.spec.options.create_desktop_user for role in matching)
    return DesktopOptions(
        clipboard=some and all(option.desktop_clipboard for option in options),
        directory_sharing=some and all(option.desktop_directory_sharing for option in options),
        record=any(option.record_session.desktop for option in options),
        create_user=create,
        groups=_groups(roles, giving, labels, traits) if create else (),
    )


def _groups(
    roles: Sequence[Role], giving: Sequence[Role], labels: Mapping[str, str], traits: Traits
) -> tuple[str, ...]:
    denied = {
        value
        for role in roles
        if subtracts(role, PROTOCOL, labels, traits)
        for entry in role.spec.deny.desktop_groups
        for value in expand(entry, traits).values
    }
    if "*" in denied:
        return ()
    folded = {value.casefold() for value in denied}
    allowed = {
        value
        for role in giving
        for entry in role.spec.allow.desktop_groups
        for value in expand(entry, traits).values
        if valid_login(value) and value.casefold() not in folded
    }
    return tuple(sorted(allowed))
