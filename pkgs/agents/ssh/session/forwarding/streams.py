"""Connections that came in on the node and are carried to the client, each on a channel of its own."""

from __future__ import annotations

import socket
from collections.abc import Callable
from typing import Protocol

from pkgs.common.ssh.channel import Channel, Owner
from pkgs.common.ssh.limits import MAX_CHANNELS
from pkgs.common.ssh.process.loop import Loop
from pkgs.common.ssh.process.splice import Splice


class OpenChannel(Protocol):
    """`Connection.open_channel`."""

    def __call__(
        self, kind: str, body: bytes, opened: Callable[[Channel], Owner], failed: Callable[[], None]
    ) -> bool: ...


class Streams:
    """Those of one connection; true while there is one. All in the loop's thread."""

    def __init__(self, loop: Loop, open_channel: OpenChannel, over: Callable[[], None]) -> None:
        self._loop = loop
        self._open_channel = open_channel
        self._over = over
        self._live: set[Splice] = set()
        self._ended = False

    def __bool__(self) -> bool:
        return bool(self._live)

    def carry(self, kind: str, body: bytes, sock: socket.socket) -> None:
        """Offer an accepted connection to the client; hang up if it does not want it."""

        def opened(channel: Channel) -> Owner:
            splice = Splice(self._loop, channel, self._splice_over)
            self._loop.call_soon(lambda: self._attach(splice, sock))
            return splice

        full = len(self._live) >= MAX_CHANNELS  # closed ones that are still read from count too
        if full or not self._open_channel(kind, body, opened, sock.close):
            sock.close()

    def end(self) -> None:
        """The connection is over. What came for its streams is still delivered."""
        self._ended = True

    def abort(self) -> None:
        """End all of them at once."""
        self._ended = True
        for splice in tuple(self._live):
            splice.abort()

    def _attach(self, splice: Splice, sock: socket.socket) -> None:
        if self._ended:
            sock.close()
            splice.abort()
        else:
            self._live.add(splice)
            splice.attach(sock)

    def _splice_over(self, splice: Splice) -> None:
        self._live.discard(splice)
        self._over()
