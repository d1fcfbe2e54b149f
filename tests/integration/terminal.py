"""A program at a terminal, driven by what it shows."""

from __future__ import annotations

import fcntl
import os
import pty
import subprocess
import termios
from collections.abc import Callable

from tests.harness.wait import wait_for


class Terminal:
    """Start a program on a new terminal; `expect` what it shows, `type` what a person would."""

    def __init__(self, argv: list[str], env: dict[str, str]) -> None:
        self.fd, slave = pty.openpty()
        self.raw = b""
        self._expected = 0
        self.process = subprocess.Popen(
            argv,
            env=env,
            stdin=slave,
            stdout=slave,
            stderr=slave,
            start_new_session=True,
            preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),
        )
        os.close(slave)
        os.set_blocking(self.fd, False)

    @property
    def shown(self) -> str:
        return self.raw.decode(errors="replace")

    def _read(self) -> str:
        try:
            self.raw += os.read(self.fd, 65536)
        except (BlockingIOError, OSError):
            return self.shown
        return self.shown

    def expect(self, *texts: str, deadline_s: float = 20) -> None:
        """The program shows these, in any order, after what was expected before."""

        def found() -> bool:
            shown = self._read()
            places = [shown.find(text, self._expected) for text in texts]
            if min(places) < 0:
                return False
            self._expected = max(at + len(text) for at, text in zip(places, texts, strict=True))
            return True

        self._wait(found, " and ".join(map(repr, texts)), deadline_s)

    def _wait(self, condition: Callable[[], bool], what: str, deadline_s: float = 20) -> None:
        try:
            wait_for(condition, what=what, deadline_s=deadline_s)
        except TimeoutError:
            self.process.kill()
            self.process.wait()
            os.close(self.fd)
            raise AssertionError(f"waited in vain for {what}; shown was {self.shown!r}") from None

    def type(self, text: str, end: str = "\n") -> None:
        os.write(self.fd, text.encode() + end.encode())

    def end(self) -> int:
        def over() -> bool:
            self._read()
            return self.process.poll() is not None

        self._wait(over, "the program to end")
        self._read()
        os.close(self.fd)
        return self.process.returncode
