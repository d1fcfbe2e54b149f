"""What a client's X11 request may say. Pure.

Its words end up in the input of `xauth` and in the environment, so only what is known to be harmless there
goes through; the protocol is the one that X servers use and OpenSSH sends.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from pkgs.agents.ssh.x11.limits import MAX_SCREEN
from pkgs.common.errors import InputError
from pkgs.common.ssh.requests import X11Request

PROTOCOL = "MIT-MAGIC-COOKIE-1"
_HEX = re.compile(r"(?:[0-9a-fA-F]{2}){16,64}")
"""A cookie of 16 bytes is what everybody uses; fewer could be guessed."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """A request that may be granted."""

    cookie: str = field(repr=False)
    screen: int
    single: bool


def checked(asked: X11Request) -> Wanted:
    """Raises InputError, without the words of the request (CVE-2016-3115)."""
    if asked.protocol != PROTOCOL:
        raise InputError(f"the authentication protocol is not {PROTOCOL}")
    if not _HEX.fullmatch(asked.cookie):
        raise InputError("the cookie is not 16 to 64 bytes in hexadecimal")
    if asked.screen > MAX_SCREEN:
        raise InputError(f"the screen's number is too high: the limit is {MAX_SCREEN}")
    return Wanted(asked.cookie, asked.screen, asked.single)
