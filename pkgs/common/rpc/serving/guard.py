"""The guard: what stands between a peer and the ROUTER, one per connection.

The peer's bytes are parsed, bounded and written anew: nothing a peer wrote reaches libzmq but the payload
of whole, well-formed messages, under a session id that we chose (a chosen routing id can abort libzmq, and
libzmq bounds frames but not messages). Answers come back the same way. The guard tells its owner when the
peer has gone, which libzmq does not.

    OPEN --peer's READY--> LINKING --ROUTER's READY--> RELAYING       any state --> CLOSED, once, for good

Messages that arrive while LINKING wait here. Either side that does not take its bytes stops the reading of
the other; every reason to stop is a bit in `_stopped`, and reading goes on when none is left.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from enum import Enum, auto
from pathlib import Path
from typing import Final, Protocol, cast

import msgspec

from pkgs.common.errors import AccessError
from pkgs.common.rpc.envelope import refusal_text
from pkgs.common.rpc.limits import ServerLimits, WireLimits
from pkgs.common.rpc.wire import (
    GREETING,
    Ping,
    Ready,
    ZmtpReader,
    encode_message,
    encode_ping,
    encode_pong,
    encode_ready,
    encode_refusal,
)

_SESSION_ID_BYTES = 16
PARTS: Final = 2
"""A message is a header and a body; the server reads just so many parts from the ROUTER."""


def new_session_id() -> bytes:
    """Random, and never led by NUL: such ids are libzmq's own."""
    return b"s" + os.urandom(_SESSION_ID_BYTES - 1)


class Admission(msgspec.Struct, frozen=True, kw_only=True):
    """What the owner grants a peer it lets in."""

    wire: WireLimits
    messages_per_s: float
    life_s: float = 0.0
    """0: as long as it likes."""


class Owner(Protocol):
    """The server, as far as a guard knows it."""

    ipc_path: Path

    def relayed(self, guard: Guard, messages: int, payload: int) -> None:
        """So much from the ROUTER has gone to the peer."""

    def gone(self, guard: Guard, reason: str) -> None:
        """The connection is over, whoever ended it."""


class _State(Enum):
    OPEN = auto()
    LINKING = auto()
    RELAYING = auto()
    CLOSED = auto()


# Why the peer is not being read. Plain integers, for the flags are looked at for every message.
STOP_INNER_FULL: Final = 1
STOP_IN_FLIGHT: Final = 2
STOP_RATE: Final = 4
STOP_BACKLOG: Final = 8


class Guard(asyncio.Protocol):
    """The peer's side of the guard. `admit` looks at the transport and lets the peer in, or raises."""

    def __init__(
        self, owner: Owner, limits: ServerLimits, admit: Callable[[Guard, asyncio.Transport], Admission]
    ) -> None:
        self.session_id = new_session_id()
        self._owner = owner
        self._limits = limits
        self._admit = admit
        self._loop = asyncio.get_running_loop()
        self.over: asyncio.Future[None] = self._loop.create_future()
        """Done when the connection is of no use any more."""
        self.down: asyncio.Future[None] = self._loop.create_future()
        """Done when the peer's transport has said its last word."""
        self._state = _State.OPEN
        self._peer: asyncio.Transport | None = None
        self._inner: _Inner | None = None
        self._linking: asyncio.Task[None] | None = None
        self._reader: ZmtpReader | None = None
        self._admission: Admission | None = None
        self._early: list[bytes] = []
        self._stopped = 0
        self._in_flight = 0
        self._opened_at = self._heard_at = self._pinged_at = self._loop.time()
        self._begun_at = 0.0
        self._unread_since = 0.0
        self._tokens = 0.0
        self._tokens_at = 0.0

    @property
    def open(self) -> bool:
        """Whether there is a peer's transport that stands."""
        return self._peer is not None and not self.down.done()

    # the peer's transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._peer = cast(asyncio.Transport, transport)
        if self._state is _State.CLOSED:
            self._peer.abort()
            return
        try:
            self._admission = self._admit(self, self._peer)
        except AccessError as refusal:
            self._peer.write(GREETING + encode_refusal(refusal_text(refusal)))
            self.close(f"refused: {refusal.message}", gently=True)
            return
        self._tokens = self._admission.messages_per_s
        self._tokens_at = self._loop.time()
        self._reader = ZmtpReader(self._admission.wire, accept="DEALER")
        self._peer.set_write_buffer_limits(high=self._limits.write_buffer_bytes)
        self._peer.write(GREETING + encode_ready("ROUTER"))

    def data_received(self, data: bytes) -> None:
        reader = self._reader
        if self._state is _State.CLOSED or reader is None:
            return
        try:
            events = reader.feed(data)
        except AccessError as bad:
            self.close(f"broke the protocol: {bad.message}")
            return
        now = self._heard_at = self._loop.time()
        out: list[bytes] = []
        payload = 0
        for event in events:
            if type(event) is list:
                if len(event) != PARTS:
                    self.close("broke the protocol: a message is a header and a body")
                    return
                out.append(encode_message(event))
                payload += len(event[0]) + len(event[1])
            elif isinstance(event, Ping):
                self._write_peer(encode_pong(event.context))
            elif isinstance(event, Ready):
                self._state = _State.LINKING
                self._linking = self._loop.create_task(self._link())
        if events or not self._begun_at:
            self._begun_at = now if reader.mid_message else 0.0
        if out:
            self._forward(out, payload)
        if events:
            self._spend(len(events), now)

    def pause_writing(self) -> None:
        if self._inner is not None:
            self._inner.pause_reading()

    def resume_writing(self) -> None:
        if self._inner is not None:
            self._inner.resume_reading()

    def eof_received(self) -> bool:
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        if not self.down.done():
            self.down.set_result(None)
        self.close("the peer has gone" if exc is None else f"the connection broke: {exc}")

    # towards the ROUTER

    async def _link(self) -> None:
        try:
            async with asyncio.timeout(self._limits.handshake_s):
                await self._loop.create_unix_connection(lambda: _Inner(self), str(self._owner.ipc_path))
        except (OSError, TimeoutError) as bad:
            self.close(f"the ROUTER is not to be reached: {bad}")

    def connected(self, inner: _Inner) -> None:
        """The ipc side is connected; the ROUTER is told who this is."""
        self._inner = inner
        if self._state is not _State.LINKING:
            inner.close()
            return
        inner.set_high_water(self._limits.write_buffer_bytes)
        inner.write(GREETING + encode_ready("DEALER", self.session_id))

    def linked(self, inner: _Inner) -> None:
        """The ROUTER has said READY: what came early goes first.

        Not sooner: libzmq takes a message that it reads before it has sent its own READY for a broken
        handshake, and closes the connection without a word.
        """
        if self._state is _State.LINKING:
            self._state = _State.RELAYING
            if self._early:
                inner.write(b"".join(self._early))
                self._early.clear()

    def _forward(self, messages: list[bytes], payload: int) -> None:
        self._in_flight += payload
        if self._in_flight > self._limits.inbound_bytes:
            self.stop(STOP_IN_FLIGHT)
        if self._inner is None or self._state is not _State.RELAYING:
            self._early += messages
        else:
            self._inner.write(b"".join(messages) if len(messages) > 1 else messages[0])

    def taken(self, payload: int) -> None:
        """The server took so much of this peer's messages from the ROUTER."""
        self._in_flight -= payload
        if self._stopped & STOP_IN_FLIGHT and self._in_flight <= self._limits.inbound_bytes // 2:
            self.go_on(STOP_IN_FLIGHT)

    # from the ROUTER

    def answered(self, data: bytes, messages: int, payload: int) -> None:
        """Messages of the ROUTER, written anew, for the peer."""
        self._write_peer(data)
        self._owner.relayed(self, messages, payload)

    def inner_lost(self) -> None:
        self.close("the ROUTER closed the connection")

    def _write_peer(self, data: bytes) -> None:
        if self._peer is not None and not self._peer.is_closing():
            self._peer.write(data)

    # reading or not

    def stop(self, reason: int) -> None:
        """Do not read the peer for now."""
        if not self._stopped and self._peer is not None and not self._peer.is_closing():
            self._peer.pause_reading()
        if reason & STOP_BACKLOG and not self._stopped & STOP_BACKLOG:
            self._unread_since = self._loop.time()
        self._stopped |= reason

    def go_on(self, reason: int) -> None:
        if not self._stopped & reason:
            return
        self._stopped &= ~reason
        if not self._stopped and self._peer is not None and not self._peer.is_closing():
            now = self._loop.time()
            self._heard_at = now
            self._begun_at = now if self._begun_at else 0.0
            self._peer.resume_reading()

    def _spend(self, messages: int, now: float) -> None:
        """Token bucket holding one second's worth; in debt the peer is not read until it is paid.

        Who is deeper in debt than can be waited for is closed.
        """
        assert self._admission is not None
        rate = self._admission.messages_per_s
        self._tokens = min(rate, self._tokens + (now - self._tokens_at) * rate) - messages
        self._tokens_at = now
        if -self._tokens / rate > self._limits.flood_close_s:
            self.close("floods the server with messages")
        elif self._tokens < 0 and not self._stopped & STOP_RATE:
            self.stop(STOP_RATE)
            self._loop.call_later(-self._tokens / rate, self.go_on, STOP_RATE)

    # time

    def tick(self, now: float) -> None:
        """Called about once a second: deadlines and signs of life."""
        limits, life_s = self._limits, self._admission.life_s if self._admission else 0.0
        if self._state is _State.CLOSED:
            return
        if self._state is _State.OPEN and now - self._opened_at > limits.handshake_s:
            self.close("the handshake took too long")
        elif life_s and now - self._opened_at > life_s:
            self.close("a peer without a certificate may not stay")
        elif self._stopped:
            if self._stopped & STOP_BACKLOG and now - self._unread_since > limits.stall_s:
                self.close("does not read its answers")
        elif self._begun_at and now - self._begun_at > limits.stall_s:
            self.close("stalled inside a message")
        elif now - self._heard_at > limits.idle_close_s:
            self.close("no sign of life")
        elif (
            self._state is _State.RELAYING
            and now - max(self._heard_at, self._pinged_at) > limits.ping_after_s
        ):
            self._pinged_at = now
            self._write_peer(encode_ping())

    # the end

    def abort(self) -> None:
        """Without a farewell."""
        if self._peer is not None:
            self._peer.abort()

    def close(self, reason: str, *, gently: bool = False) -> None:
        """End both sides. `gently` lets the peer have what is already written to it."""
        if self._state is _State.CLOSED:
            return
        self._state = _State.CLOSED
        self.over.set_result(None)
        self._early.clear()
        if self._linking is not None:
            self._linking.cancel()
        if self._inner is not None:
            self._inner.close()
        if self._peer is not None:
            if gently:
                self._peer.close()
            else:
                self._peer.abort()
        self._owner.gone(self, reason)


class _Inner(asyncio.Protocol):
    """The ROUTER's side. The ROUTER is ours, yet its bytes go through the same parser."""

    def __init__(self, guard: Guard) -> None:
        self._guard = guard
        self._reader = ZmtpReader(WireLimits(), accept="ROUTER")
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._guard.connected(self)

    def data_received(self, data: bytes) -> None:
        try:
            events = self._reader.feed(data)
        except AccessError:
            self._guard.inner_lost()
            return
        out: list[bytes] = []
        payload = 0
        for event in events:
            if type(event) is list:
                out.append(encode_message(event))
                payload += len(event[0]) + len(event[1])
            elif isinstance(event, Ping):
                self.write(encode_pong(event.context))
            elif isinstance(event, Ready):
                self._guard.linked(self)
        if out:
            self._guard.answered(b"".join(out), len(out), payload)

    def pause_writing(self) -> None:
        self._guard.stop(STOP_INNER_FULL)

    def resume_writing(self) -> None:
        self._guard.go_on(STOP_INNER_FULL)

    def connection_lost(self, exc: Exception | None) -> None:
        self._guard.inner_lost()

    def write(self, data: bytes) -> None:
        if self._transport is not None and not self._transport.is_closing():
            self._transport.write(data)

    def set_high_water(self, size: int) -> None:
        if self._transport is not None:
            self._transport.set_write_buffer_limits(high=size)

    def pause_reading(self) -> None:
        if self._transport is not None and not self._transport.is_closing():
            self._transport.pause_reading()

    def resume_reading(self) -> None:
        if self._transport is not None and not self._transport.is_closing():
            self._transport.resume_reading()

    def close(self) -> None:
        if self._transport is not None:
            self._transport.abort()
