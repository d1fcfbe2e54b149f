"""A sign of life on standard error for a wait of more than a second, and only on a terminal."""

from __future__ import annotations

import sys
import time
from types import TracebackType

from pkgs.common.output.limits import PROGRESS_AFTER_S
from pkgs.common.output.sanitize import inert


class Progress:
    """`with Progress("Downloading") as p: ... p.update("3 MiB")`. Erases itself at the end."""

    def __init__(self, title: str) -> None:
        self._title = title
        self._started = time.monotonic()
        self._shown = False
        self._tty = sys.stderr.isatty()

    def update(self, state: str = "") -> None:
        """Say how far it is; cheap enough to call for every chunk."""
        if not self._tty or time.monotonic() - self._started < PROGRESS_AFTER_S:
            return
        self._shown = True
        sys.stderr.write(f"\r\x1b[K{inert(self._title)} {inert(state)}")
        sys.stderr.flush()

    def __enter__(self) -> Progress:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._shown:
            sys.stderr.write("\r\x1b[K")
            sys.stderr.flush()
