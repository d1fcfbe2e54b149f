"""Windows desktops: seeing one, and opening a session as a login."""

from __future__ import annotations

from pkgs.common.access.protocols.grants import Demand, Principal, Protocol
from pkgs.common.access.types import Decision, OpenDesktop

_FORBIDDEN = frozenset('"/\\[]:;|=,+*?<>')
MAX_LOGIN_LENGTH = 104
"""Windows: a logon name may have 20 characters, one of a directory 104."""


def valid_login(login: str) -> bool:
    """Whether Windows could have an account of this name."""
    return 0 < len(login) <= MAX_LOGIN_LENGTH and _FORBIDDEN.isdisjoint(login) and login.isprintable()


PROTOCOL = Protocol(
    "desktop", "windows_desktop_labels", (Principal("windows_desktop_logins", valid=valid_login),)
)
BAD_LOGIN = Decision(False, ("login is not a valid Windows user name",))


def barred(target: OpenDesktop) -> Decision | None:
    return None if valid_login(target.login) else BAD_LOGIN


def demands(target: OpenDesktop) -> tuple[Demand, ...]:
    return ((0, target.login),)
