"""Unix sockets that a client wants to reach on a node, in the connection's process: `ssh -L port:/a.sock`."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable
from contextlib import suppress

from pkgs.agents.ssh.sockets import paths
from pkgs.agents.ssh.sockets.messages import OpenSocket, SocketAnswer, SocketStream
from pkgs.common.errors import AccessError
from pkgs.common.ssh.channel import Channel
from pkgs.common.ssh.limits import MAX_CHANNELS
from pkgs.common.ssh.owner import OPEN_CONNECT_FAILED, OPEN_PROHIBITED, OPEN_RESOURCE_SHORTAGE, OpenRefused
from pkgs.common.ssh.process.link import Link
from pkgs.common.ssh.process.loop import Loop
from pkgs.common.ssh.process.splice import Splice


class Outgoing:
    """Those of one connection; true while there is one."""

    def __init__(self, loop: Loop, link: Link, over: Callable[[], None]) -> None:
        self._loop = loop
        self._link = link
        self._over = over
        self._live: set[Splice] = set()

    def __bool__(self) -> bool:
        return bool(self._live)

    def open(self, channel: Channel, path: bytes) -> Splice:
        """In the reading thread. The file may lie on a disk that does not answer, so neither that thread nor
        the loop looks for it. Raises OpenRefused."""
        if len(self._live) >= MAX_CHANNELS:  # closed ones that are still read from count too
            raise OpenRefused(OPEN_RESOURCE_SHORTAGE, "too many channels")
        splice = Splice(self._loop, channel, self._splice_over)
        self._live.add(splice)
        threading.Thread(target=self._connect, args=(splice, path), daemon=True).start()
        return splice

    def abort(self) -> None:
        """End all of them at once. In the loop's thread."""
        for splice in tuple(self._live):
            splice.abort()

    def _connect(self, splice: Splice, raw: bytes) -> None:
        number, held, problem = splice.channel.number, None, ""
        try:
            held = paths.hold_socket(paths.checked(raw))
        except AccessError as bad:
            problem = bad.message
        except OSError as failed:
            problem = paths.reason(failed)
        try:
            name = held.name if held is not None else ""
            asked = OpenSocket(channel=number, path=paths.shown(raw), real=name, problem=problem)
            answer = self._link.call(asked, SocketAnswer)
            if answer.refusal or held is None:
                self._refuse(splice, answer.refusal, unreachable=answer.unreachable)
                return
            try:
                sock = paths.connect(held)
            except OSError as failed:
                self._link.tell(SocketStream(channel=number, what="failed", error=paths.reason(failed)))
                self._refuse(splice, paths.reason(failed), unreachable=True)
                return
            self._loop.call_soon(lambda: self._attach(splice, sock))
        except AccessError as gone:
            self._refuse(splice, gone.message, unreachable=True)
        finally:
            if held is not None:
                held.close()

    def _refuse(self, splice: Splice, text: str, *, unreachable: bool) -> None:
        code = OPEN_CONNECT_FAILED if unreachable else OPEN_PROHIBITED
        self._loop.call_soon(lambda: splice.refuse(code, text))

    # The loop's thread.

    def _attach(self, splice: Splice, sock: socket.socket) -> None:
        number = splice.channel.number
        if splice in self._live:
            self._link.tell(SocketStream(channel=number, what="started"))
            splice.attach(sock)
        else:
            with suppress(OSError):
                sock.close()
            self._link.tell(SocketStream(channel=number, what="failed", error="the client gave up"))

    def _splice_over(self, splice: Splice) -> None:
        self._live.discard(splice)
        if splice.was_attached:
            self._link.tell(SocketStream(channel=splice.channel.number, what="stopped"))
        self._over()
