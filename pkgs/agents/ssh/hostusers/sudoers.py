"""Names and text of the files below `/etc/sudoers.d`. Pure."""

from __future__ import annotations

import re
from collections.abc import Sequence

from pkgs.common.resources.names import valid_login

PREFIX = "teleport-user-"
"""Begins the names of files for accounts that somebody is logged in to; static ones have their own."""
STATIC_PREFIX = "teleport-static-"
_ODD = re.compile(r"[^A-Za-z0-9_-]")


def file_name(prefix: str, login: str) -> str:
    """sudo skips files whose name has a dot, and editors' copies: every odd letter is written as a number.
    Two logins never share a name."""
    return prefix + _ODD.sub(lambda found: f"={ord(found[0]):02x}", login)


def render(login: str, lines: Sequence[str]) -> str:
    """The file: each line is about this login and no other (attack A59)."""
    assert valid_login(login)
    assert all(line.isprintable() for line in lines)
    escaped = re.sub(r"([^A-Za-z0-9_.-])", r"\\\1", login)
    return "".join(f"{escaped} {line}\n" for line in lines)
