"""OS accounts that an agent makes for a session."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from pkgs.common.access.matching.traits import Traits, expand, parse_template
from pkgs.common.access.options.merge import InForce, always, by_name, granting, selects, subtracts
from pkgs.common.access.protocols.ssh import PROTOCOL
from pkgs.common.resources.names import valid_login
from pkgs.common.resources.role import Role, RoleOptions

_WILDCARD = "*"
_HARMLESS = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.@/-]*", re.ASCII)
"""What a trait may put into the middle of a sudoers line: nothing that separates or widens (attack A25)."""


@dataclass(frozen=True, slots=True)
class HostUser:
    """The account that may be made on a server for its visitor."""

    mode: Literal["off", "keep", "insecure-drop"]
    shell: str = ""
    groups: tuple[str, ...] = ()
    sudoers: tuple[str, ...] = ()
    """What follows the user's name in each line."""
    other_shells: tuple[str, ...] = ()
    """Shells of further roles, which lost: worth a warning."""


NO_HOST_USER = HostUser("off")


def host_user(
    roles: Sequence[Role], labels: Mapping[str, str], traits: Traits, in_force: InForce = always
) -> HostUser:
    """Over the roles whose node labels match: `off` or nothing in any of them refuses, `keep` beats
    `insecure-drop`. Shell: the first by role name. Raises InputError."""
    matching = by_name(role for role in roles if selects(role, PROTOCOL, labels, traits))
    modes = {_mode(role.spec.options) for role in matching}
    giving = granting(matching, in_force)
    if not giving or "off" in modes:
        return NO_HOST_USER
    keep = any(_mode(role.spec.options) == "keep" for role in giving)
    named = [role.spec.options.create_host_user_default_shell for role in giving]
    shells = list(dict.fromkeys(shell for shell in named if shell))
    denying = [role for role in roles if subtracts(role, PROTOCOL, labels, traits)]
    return HostUser(
        mode="keep" if keep else "insecure-drop",
        shell=shells[0] if shells else "",
        groups=_groups(giving, denying, traits),
        sudoers=_sudoers(giving, denying, traits),
        other_shells=tuple(shells[1:]),
    )


def _mode(options: RoleOptions) -> Literal["off", "keep", "insecure-drop"]:
    """Of one role. The older switch counts where the mode is not set."""
    if not options.create_host_user_mode:
        return "keep" if options.create_host_user else "off"
    return options.create_host_user_mode


def _groups(giving: Sequence[Role], denying: Sequence[Role], traits: Traits) -> tuple[str, ...]:
    """Union minus denies; what is no name of a group is dropped."""
    denied = _expanded((entry for role in denying for entry in role.spec.deny.host_groups), traits)
    if _WILDCARD in denied:
        return ()
    allowed = _expanded((entry for role in giving for entry in role.spec.allow.host_groups), traits)
    return tuple(sorted(name for name in allowed if name not in denied and valid_login(name)))


def _sudoers(giving: Sequence[Role], denying: Sequence[Role], traits: Traits) -> tuple[str, ...]:
    """In the order of role names, each once, minus denies letter by letter; `*` in a deny clears all."""
    denied = _expanded((entry for role in denying for entry in role.spec.deny.host_sudoers), traits)
    if _WILDCARD in denied:
        return ()
    found: dict[str, None] = {}
    for role in giving:
        for entry in role.spec.allow.host_sudoers:
            found |= dict.fromkeys(line for line in _lines(entry, traits) if line not in denied)
    return tuple(found)


def _lines(entry: str, traits: Traits) -> Iterable[str]:
    """One entry filled in. A trait that is the whole line is taken as it is; one that stands inside a line
    may not add to what the line says. Nothing with a line break is ever a line (attack A59)."""
    template = parse_template(entry)
    around = (template.prefix, template.suffix) if template is not None else ("", "")
    for line in expand(entry, traits).values:
        inner = line[len(around[0]) : len(line) - len(around[1])]
        if any(around) and _HARMLESS.fullmatch(inner) is None:
            continue
        if line.strip() and line.isprintable() and line != _WILDCARD:
            yield line


def _expanded(entries: Iterable[str], traits: Traits) -> frozenset[str]:
    return frozenset(value for entry in entries for value in expand(entry, traits).values)
