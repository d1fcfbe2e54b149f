"""What an account should be: from roles and traits, or from a static host user. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from pkgs.agents.ssh.hostusers.limits import MAX_GROUPS, MAX_SUDOERS, MAX_SUDOERS_LINE, UID_MAX, UID_MIN
from pkgs.common.access.options.hostuser import HostUser
from pkgs.common.errors import DeniedError
from pkgs.common.resources.names import valid_login

KEEP, DROP, STATIC = "teleport-keep", "teleport-system", "teleport-static"
MARKERS = (KEEP, DROP, STATIC)
"""Groups that say whose an account is. Without one of them it is not ours."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """An account as it should be."""

    marker: str
    groups: tuple[str, ...] = ()
    sudoers: tuple[str, ...] = ()
    """What follows the login in each line."""
    shell: str = ""
    uid: int | None = None
    gid: int | None = None
    take_ownership: bool = False
    """An account that is not ours becomes it."""

    @property
    def all_groups(self) -> frozenset[str]:
        return frozenset(self.groups) | {self.marker}


def wanted_of(user: HostUser, traits: Mapping[str, Sequence[str]]) -> Wanted | None:
    """What the roles and traits of a visitor say; None: make none. DeniedError for impossible ids."""
    if user.mode == "off":
        return None
    return Wanted(
        marker=KEEP if user.mode == "keep" else DROP,
        groups=clean_groups(user.groups),
        sudoers=clean_sudoers(user.sudoers),
        shell=user.shell,
        uid=_id(traits, "host_user_uid"),
        gid=_id(traits, "host_user_gid"),
    )


def shared(claims: Iterable[Wanted]) -> Wanted:
    """One account for several visitors at a time: what all of them may have, and kept if one keeps it. Which
    of them runs a process cannot be told apart, so nobody gains by another's being there."""
    every = list(claims)
    newest = every[-1]
    return Wanted(
        marker=KEEP if any(one.marker == KEEP for one in every) else newest.marker,
        groups=tuple(name for name in newest.groups if all(name in one.groups for one in every)),
        sudoers=tuple(line for line in newest.sudoers if all(line in one.sudoers for one in every)),
        shell=newest.shell,
        uid=newest.uid,
        gid=newest.gid,
    )


def clean_groups(groups: Iterable[str]) -> tuple[str, ...]:
    """No role makes an account ours, or not ours, by naming a marker."""
    return tuple(dict.fromkeys(name for name in groups if valid_login(name) and name not in MARKERS))[
        :MAX_GROUPS
    ]


def clean_sudoers(lines: Iterable[str]) -> tuple[str, ...]:
    """Lines that stay lines: no break, and none that goes on in the next one (attack A59)."""
    good = [
        line
        for line in lines
        if line.strip()
        and line.isprintable()
        and not line.rstrip().endswith("\\")
        and len(line) <= MAX_SUDOERS_LINE
    ]
    return tuple(dict.fromkeys(good))[:MAX_SUDOERS]


def _id(traits: Mapping[str, Sequence[str]], name: str) -> int | None:
    """The first value of a trait, where there is one."""
    values = traits.get(name, ())
    if not values or not values[0]:
        return None
    text = values[0]
    if not (text.isascii() and text.isdecimal() and len(text) <= 10 and UID_MIN <= int(text) <= UID_MAX):
        raise DeniedError(
            f"the trait {name} is not an id that an account may have",
            hint=f"a number from {UID_MIN} to {UID_MAX}",
        )
    return int(text)
