"""The displays of one connection's sessions, in its process."""

from __future__ import annotations

import socket

from pkgs.agents.ssh.session.forwarding.streams import Streams
from pkgs.agents.ssh.sockets.paths import reason
from pkgs.agents.ssh.x11.cookie import checked
from pkgs.agents.ssh.x11.display import Display, make
from pkgs.agents.ssh.x11.messages import DisplayAnswer, DisplayFailed, OpenDisplay
from pkgs.common.errors import AccessError
from pkgs.common.ssh.process.link import Link
from pkgs.common.ssh.process.loop import Loop
from pkgs.common.ssh.requests import X11Request
from pkgs.common.ssh.wire import string, uint32

KIND = "x11"
_ORIGIN = string("127.0.0.1") + uint32(0)
"""Where a connection came from (RFC 4254, 6.3.2): a unix socket has no address."""


class Displays:
    """By the channel of the session that asked: a display is that session's, and goes with it."""

    def __init__(self, loop: Loop, link: Link, streams: Streams) -> None:
        self._loop = loop
        self._link = link
        self._streams = streams
        self._open: dict[int, Display] = {}
        self._ended = False

    def open(self, channel: int, asked: X11Request) -> bool:
        """In the reading thread. Nothing is made before it is allowed."""
        if channel in self._open:
            return False
        try:
            wanted = checked(asked)
            answer = self._link.call(OpenDisplay(), DisplayAnswer)
            if answer.refusal:
                return False
            display = make(self._loop, range(answer.first, answer.last + 1), wanted)
        except AccessError as problem:
            self._link.tell(DisplayFailed(error=problem.message))
            return False
        except OSError as problem:
            self._link.tell(DisplayFailed(error=reason(problem)))
            return False
        self._open[channel] = display
        self._loop.call_soon(lambda: self._watch(channel))
        return True

    def environment(self, channel: int) -> dict[str, str]:
        """What a session's programs must know of its display; nothing, when it has none."""
        display = self._open.get(channel)
        return display.environment if display is not None else {}

    # The loop's thread.

    def close(self, channel: int) -> None:
        """The session is over. X clients that are connected stay (RFC 4254, 6.3.2)."""
        display = self._open.pop(channel, None)
        if display is not None:
            display.close()

    def end(self) -> None:
        """The connection is over."""
        self._ended = True
        for channel in tuple(self._open):
            self.close(channel)

    def _watch(self, channel: int) -> None:
        if self._ended:
            self.end()  # it was made meanwhile
        elif channel in self._open:
            self._open[channel].watch(self._carry)

    def _carry(self, sock: socket.socket) -> None:
        self._streams.carry(KIND, _ORIGIN, sock)
