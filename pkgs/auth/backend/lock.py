"""A lock that keeps a second process away from the same storage."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path

from pkgs.common.errors import UnavailableError


class FileLock:
    """Held from construction to `release`, or to the end of the process whatever ends it."""

    def __init__(self, path: Path) -> None:
        self._fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            os.close(self._fd)
            raise UnavailableError(
                f"{path.parent} is in use by another Auth Service",
                hint="stop that one first, or choose another data directory",
            ) from error

    def release(self) -> None:
        os.close(self._fd)
