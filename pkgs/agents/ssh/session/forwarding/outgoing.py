"""Channels that lead from the client to somewhere, in the connection's process: `ssh -L`."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable
from typing import Literal, Protocol

from pkgs.common.errors import AccessError
from pkgs.common.ssh.channel import Channel
from pkgs.common.ssh.limits import MAX_CHANNELS
from pkgs.common.ssh.owner import OPEN_CONNECT_FAILED, OPEN_RESOURCE_SHORTAGE, OpenRefused
from pkgs.common.ssh.process.loop import Loop
from pkgs.common.ssh.process.splice import Splice


class Way(Protocol):
    """Where one channel leads."""

    def reach(self) -> socket.socket:
        """Ask whether it may be, and connect. Blocking; raises OpenRefused, AccessError."""

    def tell(self, what: Literal["started", "stopped", "failed"], error: str = "") -> None:
        """What became of it; for the audit. Not of what `reach` refused."""


class Outgoing:
    """Those of one connection; true while there is one."""

    def __init__(self, loop: Loop, over: Callable[[], None]) -> None:
        self._loop = loop
        self._over = over
        self._live: dict[Splice, Way] = {}

    def __bool__(self) -> bool:
        return bool(self._live)

    def open(self, channel: Channel, way: Way) -> Splice:
        """In the reading thread. A name may take long to resolve, a host or a disk to answer: neither that
        thread nor the loop waits for them. Raises OpenRefused."""
        if len(self._live) >= MAX_CHANNELS:  # closed ones that are still read from count too
            raise OpenRefused(OPEN_RESOURCE_SHORTAGE, "too many channels")
        splice = Splice(self._loop, channel, self._splice_over)
        self._live[splice] = way
        threading.Thread(target=self._connect, args=(splice, way), daemon=True).start()
        return splice

    def _connect(self, splice: Splice, way: Way) -> None:
        try:
            sock = way.reach()
        except OpenRefused as refusal:
            self._refuse(splice, refusal.code, refusal.text)
        except AccessError as gone:
            self._refuse(splice, OPEN_CONNECT_FAILED, gone.message)
        else:
            self._loop.call_soon(lambda: self._attach(splice, way, sock))

    def _refuse(self, splice: Splice, code: int, text: str) -> None:
        self._loop.call_soon(lambda: splice.refuse(code, text))

    # The loop's thread.

    def abort(self) -> None:
        """End all of them at once."""
        for splice in tuple(self._live):
            splice.abort()

    def _attach(self, splice: Splice, way: Way, sock: socket.socket) -> None:
        if splice in self._live:
            way.tell("started")
            splice.attach(sock)
        else:
            sock.close()
            way.tell("failed", "the client gave up")

    def _splice_over(self, splice: Splice) -> None:
        way = self._live.pop(splice)
        if splice.was_attached:
            way.tell("stopped")
        self._over()
