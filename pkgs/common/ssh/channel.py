"""One SSH channel as its owner sees it: windows, data, requests, end. Knows no library and no socket.

    open --(peer: data, requests)--> open --send_eof--> output shut --close--> closing --(peer: close)--> gone

Sending never blocks: `send` takes what the peer's window allows and says how much; `on_writable` is called
when there is room again. Callbacks of an `Owner` run in the connection's reading thread.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Protocol

from pkgs.common.ssh import wire
from pkgs.common.ssh.limits import WINDOW, WINDOW_STEP
from pkgs.common.ssh.requests import ChannelRequest

_DATA = b"\x5e"
_EXTENDED_DATA = b"\x5f"
_WINDOW_ADJUST = b"\x5d"
_EOF = b"\x60"
_CLOSE = b"\x61"
_REQUEST = b"\x62"
_SUCCESS = b"\x63"
_FAILURE = b"\x64"
_STDERR = wire.uint32(1)
_MAX_WINDOW = 0xFFFFFFFF

Reply = Callable[[bool], None]


class Post(Protocol):
    """Sends one message, given in one or two pieces."""

    def __call__(self, head: bytes, data: bytes = b"") -> None: ...


class Owner(Protocol):
    """Who a channel's events go to."""

    def opened(self) -> None:
        """The peer has been told that the channel is open; sending may begin."""

    def data(self, data: bytes) -> None:
        """Bytes from the peer, at most as many as were granted. The owner says `consumed` later."""

    def eof(self) -> None:
        """The peer sends no more, but may still read."""

    def writable(self) -> None:
        """The peer's window opened after a `send` that could not take everything."""

    def request(self, request: ChannelRequest, reply: Reply) -> None:
        """Answer by calling `reply` once, before the reading thread returns."""

    def closed(self) -> None:
        """The channel is gone; nothing can be sent any more. Called once."""


class Channel:
    """One channel of a connection."""

    def __init__(self, post: Post, number: int, remote: int, window: int, packet: int) -> None:
        self.number = number
        self.owner: Owner | None = None
        self.forget: Callable[[int], None] = lambda number: None
        self.touched: Callable[[], None] = lambda: None
        self.confirm: Callable[[], None] = lambda: None
        """Tell the peer that the channel is open. Any thread; once."""
        self.refuse: Callable[[int, str], None] = lambda code, text: None
        """Tell it that the channel is not opened; nothing else may be sent."""
        self.requests = 0
        self.received_eof = False
        self.sent_close = False
        self._sent_eof = False
        self._gone = False
        self._post = post
        self._remote = wire.uint32(remote)
        self._lock = threading.Lock()
        self._window_out = window
        self._packet = packet - 64
        self._window_in = WINDOW
        self._consumed = 0
        self._wants_room = False

    def send(self, data: bytes, *, stderr: bool = False) -> int:
        """Send as much as the window allows; the number of bytes taken, 0 when the peer must read first."""
        with self._lock:
            if self._sent_eof or self.sent_close or self._gone:
                return len(data)
            size = min(len(data), self._window_out, self._packet)
            if size < len(data):
                self._wants_room = True
            if size == 0:
                return 0
            self._window_out -= size
            head = _EXTENDED_DATA + self._remote + _STDERR if stderr else _DATA + self._remote
            piece = data if size == len(data) else data[:size]
            # Posted under the lock: data, EOF and close of one channel keep their order.
            self._post(head + size.to_bytes(4, "big"), piece)
        return size

    def room(self) -> int:
        """Bytes `send` would take in one packet now. With none, `writable` will be called."""
        with self._lock:
            if self._window_out == 0:
                self._wants_room = True
            return min(self._window_out, self._packet)

    def consumed(self, size: int) -> None:
        """The owner is done with that many received bytes; the peer may send as many more."""
        with self._lock:
            self._consumed += size
            if self._consumed < WINDOW_STEP or self.received_eof or self.sent_close or self._gone:
                return
            grant, self._consumed = self._consumed, 0
            self._window_in += grant
            self._post(_WINDOW_ADJUST + self._remote + wire.uint32(grant))

    def send_eof(self) -> None:
        """No more output; input stays open."""
        with self._lock:
            if not (self._sent_eof or self.sent_close or self._gone):
                self._sent_eof = True
                self._post(_EOF + self._remote)

    def exit_status(self, status: int) -> None:
        self._notify("exit-status", wire.uint32(status & 0xFFFFFFFF))

    def exit_signal(self, name: str, core: bool, text: str = "") -> None:
        """`name` without SIG."""
        self._notify(
            "exit-signal", wire.string(name) + wire.boolean(core) + wire.string(text) + wire.string("")
        )

    def turn_away(self, reply: Reply, text: str, status: int = 255) -> None:
        """Refuse a request with a text, and end. It is granted first: after a refused request OpenSSH does
        not show the text."""
        reply(True)
        if text:
            self.send(text.replace("\n", "\r\n").encode() + b"\r\n", stderr=True)
        self.exit_status(status)
        self.send_eof()
        self.close()

    def close(self) -> None:
        """Say that this side is done with the channel."""
        with self._lock:
            if not (self.sent_close or self._gone):
                self.sent_close = True
                self._post(_CLOSE + self._remote)

    def silence(self) -> None:
        """Nothing more is sent or heard, as after `close`, but the peer is not told. Any thread."""
        with self._lock:
            self._sent_eof = self.sent_close = True

    # What the connection calls, in its reading thread.

    def take_data(self, data: bytes) -> None:
        """Data from the peer. Raises WireError when it is more than was granted."""
        with self._lock:
            self._window_in -= len(data)
            if self._window_in < 0:
                raise wire.WireError("peer sent more than the window allows")
            if self.received_eof:
                raise wire.WireError("peer sent data after its end of data")
        # Nothing is nothing: no window would bound how much of it waits.
        if data and self.owner is not None and not self.sent_close:
            self.owner.data(data)

    def take_adjust(self, size: int) -> None:
        with self._lock:
            self._window_out += size
            if self._window_out > _MAX_WINDOW:
                raise wire.WireError("peer's window overflows")
            wake, self._wants_room = self._wants_room and size > 0, False
        if wake and self.owner is not None:
            self.owner.writable()

    def take_eof(self) -> None:
        if not self.received_eof:
            self.received_eof = True
            if self.owner is not None and not self.sent_close:
                self.owner.eof()

    def take_request(self, request: ChannelRequest, want_reply: bool) -> None:
        answered = False

        def reply(ok: bool) -> None:
            nonlocal answered
            if not answered and want_reply:
                self._post((_SUCCESS if ok else _FAILURE) + self._remote)
            answered = True

        if self.owner is not None and not self.sent_close:
            self.owner.request(request, reply)
        if not answered:
            reply(False)

    def discard(self) -> None:
        """It was never opened: nothing more is sent, nobody is told."""
        with self._lock:
            self._gone = True

    def vanish(self) -> None:
        """The peer closed the channel, or the connection is gone."""
        with self._lock:
            if self._gone:
                return
            if not self.sent_close:
                self.sent_close = True
                self._post(_CLOSE + self._remote)
            self._gone = True
        if self.owner is not None:
            self.owner.closed()

    def _unlink(self) -> None:
        """Name under which the library says that the connection is gone."""
        self.vanish()

    def _notify(self, kind: str, body: bytes) -> None:
        with self._lock:
            if not (self.sent_close or self._gone):
                self._post(_REQUEST + self._remote + wire.string(kind) + wire.boolean(False) + body)
