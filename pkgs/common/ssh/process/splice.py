"""A channel spliced to a socket: port forwarding on a node, a jump through the proxy.

    opening --attach(socket)--> confirmed --(either side ends: half close)--> both ended --> over
            --refuse--> over              --(peer closes: what it sent is still delivered)--> over

The socket is found by whoever owns the decision, in its own time; until then the peer waits and nothing
else does.
"""

from __future__ import annotations

import socket
import threading
from collections import deque
from collections.abc import Callable

from pkgs.common.ssh.channel import Channel, Reply
from pkgs.common.ssh.limits import CHUNK, UNREAD_S
from pkgs.common.ssh.process.loop import READ, WRITE, Loop
from pkgs.common.ssh.requests import ChannelRequest

_READS_PER_TURN = 16


class Splice:
    """Owner of a channel that carries a byte stream. All but data and close run in the loop's thread."""

    def __init__(self, loop: Loop, channel: Channel, over: Callable[[Splice], None]) -> None:
        self.channel = channel
        self.was_attached = False
        self._loop = loop
        self._over: Callable[[Splice], None] | None = over
        self._sock: socket.socket | None = None
        self._fd = -1
        self._lock = threading.Lock()
        self._unsent: deque[bytes] = deque()
        self._peer_ended = False
        self._sock_ended = False
        self._blocked = False

    def attach(self, sock: socket.socket) -> None:
        """The stream is there: tell the peer and begin."""
        if self._over is None:
            sock.close()
            return
        self.was_attached = True
        sock.setblocking(False)
        with self._lock:
            self._sock, self._fd = sock, sock.fileno()
        self.channel.confirm()
        self._watch()

    def refuse(self, code: int, text: str) -> None:
        """There will be no stream."""
        if self._over is not None:
            self.channel.refuse(code, text)
            self._end()

    def abort(self) -> None:
        """End now, whatever is still on its way. In the loop's thread."""
        self._end()

    # In the reading thread.

    def opened(self) -> None:
        """Nothing to send that is not on the socket."""

    def request(self, request: ChannelRequest, reply: Reply) -> None:
        reply(False)

    def data(self, data: bytes) -> None:
        with self._lock:
            if not self._unsent and self._sock is not None:
                try:
                    sent = self._sock.send(data)
                except BlockingIOError:
                    sent = 0
                except OSError:
                    sent = len(data)  # the other end is gone; its end of data follows
                self.channel.consumed(sent)
                if sent == len(data):
                    return
                data = data[sent:]
            self._unsent.append(data)
        self._loop.call_soon(self._watch)

    def eof(self) -> None:
        self._loop.call_soon(self._peer_eof)

    def writable(self) -> None:
        self._loop.call_soon(self._unblock)

    def closed(self) -> None:
        self._loop.call_soon(self._peer_closed)

    # In the loop's thread.

    def _watch(self) -> None:
        if self._fd < 0:
            return
        what = (0 if self._sock_ended or self._blocked else READ) | (WRITE if self._unsent else 0)
        if what:
            self._loop.watch(self._fd, what, self._ready)
        else:
            self._loop.unwatch(self._fd)

    def _ready(self) -> None:
        if self._unsent:
            self._flush()
        if not self._sock_ended and not self._blocked:
            self._read()
        if self._over is not None:
            self._watch()

    def _flush(self) -> None:
        with self._lock:
            while self._unsent and self._sock is not None:
                head = self._unsent[0]
                try:
                    sent = self._sock.send(head)
                except BlockingIOError:
                    return
                except OSError:
                    sent = len(head)
                self.channel.consumed(sent)
                if sent < len(head):
                    self._unsent[0] = head[sent:]
                    return
                self._unsent.popleft()
        if self._peer_ended:
            self._shut()

    def _read(self) -> None:
        assert self._sock is not None
        for _ in range(_READS_PER_TURN):
            room = self.channel.room()
            if room == 0:
                self._blocked = True
                return
            try:
                data = self._sock.recv(min(room, CHUNK))
            except BlockingIOError:
                return
            except OSError:
                data = b""
            if not data:
                self._sock_ended = True
                self.channel.send_eof()
                self._maybe_end()
                return
            self.channel.send(data)

    def _unblock(self) -> None:
        self._blocked = False
        self._watch()

    def _peer_eof(self) -> None:
        self._peer_ended = True
        if not self._unsent and self._sock is not None:
            self._shut()

    def _peer_closed(self) -> None:
        if not self._unsent:
            self._end()
            return
        self._peer_ended = self._sock_ended = True  # only one way is left
        self._watch()
        self._wait_read(0)

    def _wait_read(self, before: int) -> None:
        """Whoever takes nothing of what is left for some time gets no more of it."""
        left = sum(map(len, self._unsent))
        if left == before:
            self._end()
        elif self._over is not None:
            self._loop.after(UNREAD_S, lambda: self._wait_read(left))

    def _shut(self) -> None:
        assert self._sock is not None
        try:
            self._sock.shutdown(socket.SHUT_WR)
        except OSError:
            self._sock_ended = True  # it is gone altogether
        self._maybe_end()

    def _maybe_end(self) -> None:
        if self._sock_ended and self._peer_ended and not self._unsent:
            self._end()

    def _end(self) -> None:
        over, self._over = self._over, None
        if over is None:
            return
        self._loop.unwatch(self._fd)
        with self._lock:
            sock, self._sock, self._fd = self._sock, None, -1
        if sock is not None:
            sock.close()
        self.channel.close()
        over(self)
