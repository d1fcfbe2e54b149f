"""Bringing one account to what it should be. Logic over `HostTools`; blocks, one thread calls it.

An account that is not in a marker group is somebody else's and stays as it is; an account of the system is
never made, changed or removed, whatever group it is in (attack A59).
"""

from __future__ import annotations

import logging
import re
from collections.abc import Set
from typing import Literal

from pkgs.agents.ssh.hostusers import sudoers
from pkgs.agents.ssh.hostusers.limits import UID_MIN
from pkgs.agents.ssh.hostusers.tools import Entry, HostTools
from pkgs.agents.ssh.hostusers.wanted import DROP, KEEP, MARKERS, STATIC, Wanted
from pkgs.common.errors import DeniedError, UnavailableError
from pkgs.common.resources.names import valid_login

_LIKE_ALIAS = re.compile(r"[A-Z][A-Z0-9_]*", re.ASCII)
"""sudo would take such a login for an alias, or `ALL` for everybody (attack A59)."""

_STATIC_NOTE = "static:"
"""Begins the note of a static host user; no login has a colon."""

Outcome = Literal["made", "changed", "same", "not ours"]


class Accounts:
    def __init__(self, tools: HostTools, log: logging.Logger) -> None:
        self._tools = tools
        self._log = log

    def ensure(self, login: str, wanted: Wanted) -> Outcome:
        """Raises DeniedError for what must not be, UnavailableError for what the host refuses."""
        if not valid_login(login) or login == "root" or _LIKE_ALIAS.fullmatch(login):
            raise DeniedError(f"no account is made for the login {login[:40]!r}")
        entry = self._tools.account(login)
        if entry is None:
            self._note(login, wanted)
            self._make(login, wanted)
            outcome: Outcome = "made"
        else:
            marker = _settled(marker_of(entry), wanted)
            if not marker:
                return "not ours"
            _check_ordinary(entry)
            self._note(login, wanted)
            outcome = self._change(entry, marker, wanted)
        self._give_sudo(login, wanted)
        return outcome

    def _note(self, login: str, wanted: Wanted) -> None:
        """Before anything is done: what is not noted is not undone after a crash."""
        self._tools.note(f"{_STATIC_NOTE}{login}" if wanted.marker == STATIC else login)

    def _make(self, login: str, wanted: Wanted) -> None:
        tools = self._tools
        if wanted.uid is not None and tools.uid_taken(wanted.uid):
            raise DeniedError(f"the user id {wanted.uid} belongs to another account of this host")
        if wanted.gid is not None and not tools.group_of(wanted.gid):
            tools.add_group(login, wanted.gid)
        shell = wanted.shell
        if shell and not tools.shell_exists(shell):
            self._log.warning(
                "a shell of the roles is not on this host", extra={"login": login, "shell": shell}
            )
            shell = ""
        groups = sorted(wanted.all_groups)
        tools.ensure_groups(groups)
        entry = tools.add_user(login, groups=groups, shell=shell, uid=wanted.uid, gid=wanted.gid)
        if entry.uid < UID_MIN:
            tools.remove_user(entry)
            raise DeniedError(f"this host gives accounts user ids below {UID_MIN}, which are the system's")

    def _change(self, entry: Entry, marker: str, wanted: Wanted) -> Outcome:
        groups = frozenset(wanted.groups) | {marker}
        if wanted.take_ownership and marker_of(entry) == "":
            groups |= entry.groups  # what it had before it was ours, it keeps
        if groups == entry.groups:
            return "same"
        self._tools.ensure_groups(sorted(groups))
        self._tools.set_groups(entry.login, sorted(groups))
        return "changed"

    def _give_sudo(self, login: str, wanted: Wanted) -> None:
        """A line that visudo refuses takes the rights of sudo, not the account."""
        prefix = sudoers.STATIC_PREFIX if wanted.marker == STATIC else sudoers.PREFIX
        name = sudoers.file_name(prefix, login)
        try:
            if wanted.sudoers:
                self._tools.write_sudoers(name, sudoers.render(login, wanted.sudoers))
                return
        except UnavailableError as problem:
            self._log.error("no rights of sudo are given: %s", problem, extra={"login": login})
        self._tools.remove_sudoers(name)

    def finish(self, login: str) -> bool:
        """Nobody is logged in to it any more: what was for that time only goes. Whether the account went."""
        if login not in self._tools.noted():
            return False  # another agent's of this host, or nobody's
        self._tools.remove_sudoers(sudoers.file_name(sudoers.PREFIX, login))
        entry = self._tools.account(login)
        goes = entry is not None and marker_of(entry) == DROP
        if entry is not None and goes:
            _check_ordinary(entry)
            self._tools.remove_user(entry)
        self._tools.forget(login)
        return goes

    def clean_up(self) -> list[str]:
        """What a killed process left: nobody is logged in now. The accounts that went."""
        gone = []
        for login in filter(valid_login, self._tools.noted()):
            try:
                if self.finish(login):
                    gone.append(login)
            except (DeniedError, UnavailableError) as problem:
                self._log.error("an account is left over: %s", problem, extra={"login": login})
        return gone

    def drop_static(self, kept: Set[str]) -> list[str]:
        """The static host users of an earlier time that are not among `kept`: no rights of sudo any more."""
        notes = [name for name in self._tools.noted() if name.startswith(_STATIC_NOTE)]
        gone = [login for name in notes if (login := name.removeprefix(_STATIC_NOTE)) not in kept]
        for login in gone:
            self._tools.remove_sudoers(sudoers.file_name(sudoers.STATIC_PREFIX, login))
            self._tools.forget(f"{_STATIC_NOTE}{login}")
        return gone


def marker_of(entry: Entry) -> str:
    """Whose it is; with several marks, the one that does least harm. Empty: not ours."""
    found = [marker for marker in (STATIC, KEEP, DROP) if marker in entry.groups]
    return found[0] if found else ""


def _settled(current: str, wanted: Wanted) -> str:
    """The mark that an existing account has from now on; empty: leave it alone."""
    assert wanted.marker in MARKERS
    if current in ("", STATIC) and current != wanted.marker:
        return wanted.marker if wanted.take_ownership else ""
    if wanted.marker == STATIC:
        return STATIC if current == STATIC or wanted.take_ownership else ""
    return KEEP if KEEP in (current, wanted.marker) else wanted.marker


def _check_ordinary(entry: Entry) -> None:
    if entry.uid < UID_MIN or entry.login == "root":
        raise DeniedError(f"the account {entry.login} is one of the system's")
