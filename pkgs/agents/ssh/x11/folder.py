"""The folder where X clients look for displays: `/tmp/.X11-unix`. The service makes it, nobody else can.

Whoever owned it could put another socket in the place of a display (attack A58), so it is used only if it is
root's or this process's own, and nobody else can rename what is in it.
"""

from __future__ import annotations

import os
import stat
from pathlib import Path

from pkgs.common.errors import UnavailableError

FOLDER = Path("/tmp/.X11-unix")  # noqa: S108 - fixed by the X libraries
_MODE = 0o1777


def make(folder: Path = FOLDER) -> None:
    """Make it, if it is missing: everybody may put sockets there, and remove only their own. Raises
    UnavailableError when what is there will not do."""
    try:
        folder.mkdir(mode=0o700)
    except FileExistsError:
        check(folder)
    except OSError as problem:
        raise UnavailableError(f"{folder} cannot be made: {problem.strerror}") from None
    else:
        folder.chmod(_MODE)  # ours, in a folder where nobody else can rename it


def check(folder: Path = FOLDER) -> None:
    """Raises UnavailableError when it is no folder to trust."""
    try:
        facts = folder.lstat()
    except OSError as problem:
        raise UnavailableError(f"{folder}: {problem.strerror}") from None
    others_write = facts.st_mode & (stat.S_IWGRP | stat.S_IWOTH) and not facts.st_mode & stat.S_ISVTX
    if not stat.S_ISDIR(facts.st_mode) or facts.st_uid not in (0, os.geteuid()) or others_write:
        raise UnavailableError(f"{folder} is not a folder of root's with mode 1777")
