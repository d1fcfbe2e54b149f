"""Folders of a connection's process: private from their first moment, and of names that nobody can guess, so
that nothing can be put there before (attack A58).

A process that is killed leaves its folders behind; the next one of the same user that makes one removes them.
"""

from __future__ import annotations

import os
import re
import shutil
import stat
import tempfile
from contextlib import suppress
from pathlib import Path

BASE = Path("/tmp")  # noqa: S108 - only ever a private directory of an unguessable name in it


def make_private(kind: str, base: Path = BASE) -> Path:
    """A new folder for what `kind` names. Raises OSError."""
    remove_left(kind, base)
    return Path(tempfile.mkdtemp(prefix=f"teleport-{kind}-{os.getpid()}-", dir=base))


def remove_left(kind: str, base: Path = BASE) -> None:
    """Remove what this user's dead processes left. A name alone proves nothing: the directory must be this
    user's own, and no link."""
    name = re.compile(rf"teleport-{kind}-([0-9]{{1,10}})-.*")
    for entry in base.glob(f"teleport-{kind}-*"):
        found = name.fullmatch(entry.name)
        with suppress(OSError):
            facts = entry.lstat()
            is_own = stat.S_ISDIR(facts.st_mode) and facts.st_uid == os.geteuid()
            if found and is_own and not Path(f"/proc/{found[1]}").exists():
                shutil.rmtree(entry, ignore_errors=True)
