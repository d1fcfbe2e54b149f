"""What a connection's process tells its service of a session: what was asked for, what it shows, its size."""

from __future__ import annotations

from collections.abc import Callable

from pkgs.common.ssh.limits import CHUNK, MAX_SHOWN_COMMAND, RESIZE_REST_S
from pkgs.common.ssh.process.loop import Loop
from pkgs.common.ssh.process.messages import Message
from pkgs.common.ssh.requests import PtyRequest, TerminalSize
from pkgs.common.ssh.sessions.messages import OpenSession, Output, OutputCut, SessionKind, SessionOpened

Tell = Callable[[Message], None]


def asked(channel: int, kind: SessionKind, command: bytes, pty: PtyRequest | None) -> OpenSession:
    """What the client wants to run; a long command is cut, and what is no text made visible."""
    shown = command[:MAX_SHOWN_COMMAND].decode(errors="backslashreplace")
    size = pty.size if pty is not None else TerminalSize(0, 0)
    return OpenSession(
        channel=channel,
        kind=kind,
        command=shown,
        exact=shown.encode() == command,
        pty=pty is not None,
        columns=size.columns,
        rows=size.rows,
        term=pty.term if pty is not None else "",
    )


class Shown:
    """Tells of output as much as the service wants."""

    def __init__(self, channel: int, opened: SessionOpened, tell: Tell) -> None:
        self._channel = channel
        self._wanted = opened.record
        self._left = opened.record_limit
        self._tell = tell

    def take(self, data: bytes) -> None:
        if self._wanted == "none":
            return
        told = data[: self._left] if self._wanted == "head" else data
        self._left -= len(told)
        for start in range(0, len(told), CHUNK):
            self._tell(Output(channel=self._channel, data=told[start : start + CHUNK]))
        if len(told) < len(data):
            self._wanted = "none"
            self._tell(OutputCut(channel=self._channel))


class Sizes:
    """Tells of a terminal's sizes: dragging a window makes dozens a second; where it comes to rest is what
    is worth keeping. In the loop's thread."""

    def __init__(self, loop: Loop, tell: Callable[[TerminalSize], None]) -> None:
        self._loop = loop
        self._tell = tell
        self._new: TerminalSize | None = None

    def changed(self, size: TerminalSize) -> None:
        if self._new is None:
            self._loop.after(RESIZE_REST_S, self.settle)
        self._new = size

    def settle(self) -> None:
        """Tell the last one now, unless it was told."""
        size, self._new = self._new, None
        if size is not None:
            self._tell(size)
