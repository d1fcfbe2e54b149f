"""One connection of the async client: ZMTP frames one way, running calls the other.

    DIALLED --READY of the server--> ADMITTED --anything wrong, or close--> LOST

Calls may go out before READY has come, in the same flight as our greeting. What is written within one turn
of the loop leaves in one write.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from typing import cast

from pkgs.common.errors import AccessError, LimitExceededError, ProtocolError, UnavailableError
from pkgs.common.rpc import envelope
from pkgs.common.rpc.limits import STREAM_WINDOW, UPLOAD_WINDOW, ClientLimits
from pkgs.common.rpc.wire import (
    GREETING,
    Ping,
    Ready,
    Refused,
    ZmtpReader,
    encode_message,
    encode_ping,
    encode_pong,
    encode_ready,
)


class LostError(UnavailableError):
    """The connection ended before the answer came: it may or may not have been carried out."""


class Items:
    """The items of one stream as they arrive; reading them grants the server new credit."""

    def __init__(self, link: Link, call_id: int) -> None:
        self._link = link
        self._call_id = call_id
        self._arrived: deque[bytes] = deque()
        self._event = asyncio.Event()
        self._over: AccessError | bool = False
        self._taken = 0
        self.timer: asyncio.TimerHandle | None = None

    def put(self, raw: bytes) -> None:
        if len(self._arrived) >= STREAM_WINDOW:
            raise ProtocolError("the server sends items without credit")
        self._arrived.append(raw)
        self._event.set()

    def finish(self, error: AccessError | None) -> None:
        if not self._over:
            self._over = error or True
            self._event.set()

    async def next(self) -> bytes | None:
        """The next item; None at the end. Raises the error that ended the stream."""
        while not self._arrived:
            if isinstance(self._over, AccessError):
                raise self._over
            if self._over:
                return None
            self._event.clear()
            await self._event.wait()
        raw = self._arrived.popleft()
        self._taken += 1
        if self._taken * 2 >= STREAM_WINDOW and not self._over:
            self._link.send(envelope.encode((envelope.CREDIT, self._call_id, self._taken)), b"")
            self._taken = 0
        return raw

    def close(self) -> None:
        """The reader has had enough."""
        if self.timer is not None:
            self.timer.cancel()
        self._link.forget(self._call_id, cancel=True)


class Upload:
    """One upload: credit to send chunks, and the answer."""

    def __init__(self, link: Link, call_id: int, answer: asyncio.Future[bytes]) -> None:
        self._link = link
        self._call_id = call_id
        self._credit = UPLOAD_WINDOW
        self._event = asyncio.Event()
        self.answer = answer
        answer.add_done_callback(lambda _: self._event.set())

    def grant(self, number: int) -> None:
        self._credit += envelope.parse_credit(number)
        self._event.set()

    async def send(self, chunk: bytes) -> bool:
        """Send one chunk when there is credit; False once the server has answered already."""
        while self._credit == 0 and not self.answer.done():
            self._event.clear()
            await self._event.wait()
        if self.answer.done():
            return False
        self._credit -= 1
        self._link.send(envelope.encode((envelope.CHUNK, self._call_id)), chunk)
        await self._link.writable()
        return True

    def end(self) -> None:
        self._link.send(envelope.encode((envelope.END, self._call_id)), b"")

    def close(self) -> None:
        self._link.forget(self._call_id, cancel=True)


class Link(asyncio.Protocol):
    """The connection and what runs on it. `lost_hook` is called once, at the end."""

    def __init__(self, limits: ClientLimits, lost_hook: Callable[[Link], None]) -> None:
        self._limits = limits
        self._lost_hook = lost_hook
        self._loop = asyncio.get_running_loop()
        self._reader = ZmtpReader(limits.wire, accept="ROUTER")
        self._transport: asyncio.Transport | None = None
        self._calls: dict[int, asyncio.Future[bytes] | Items | Upload] = {}
        self._next_id = 0
        self._out: list[bytes] = []
        self._room = asyncio.Event()
        self._room.set()
        self._ready: asyncio.Future[None] = self._loop.create_future()
        self._over: asyncio.Future[None] = self._loop.create_future()
        self.down: asyncio.Future[None] = self._loop.create_future()
        """Done when the transport has said its last word."""
        self._lost: AccessError | None = None
        self._heard_at = self._pinged_at = 0.0
        self._ticker: asyncio.TimerHandle | None = None
        self._retired = False

    # life

    @property
    def ready(self) -> bool:
        return self._reader.ready and self._lost is None

    async def admitted(self) -> None:
        """Until the server has let us in; raises UnavailableError when it did not."""
        await asyncio.shield(self._ready)

    @property
    def retired(self) -> bool:
        return self._retired

    async def over(self) -> None:
        """Until it takes no more calls: lost, closed or retired."""
        await asyncio.shield(self._over)

    def peer_certificate(self) -> bytes | None:
        ssl_object = self._transport.get_extra_info("ssl_object") if self._transport else None
        return cast(bytes, ssl_object.getpeercert(binary_form=True)) if ssl_object is not None else None

    def retire(self) -> None:
        """Take no new calls; close when the last running one has ended."""
        self._retired = True
        if not self._over.done():
            self._over.set_result(None)
        if not self._calls:
            self.close("replaced by a new connection")

    def close(self, reason: str) -> None:
        """End it; what runs fails."""
        self._end(LostError(f"the connection to the server was lost: {reason}", hint="try again"))

    def _end(self, lost: AccessError) -> None:
        if self._lost is not None:
            return
        self._lost = lost
        if not self._over.done():
            self._over.set_result(None)
        if self._ticker is not None:
            self._ticker.cancel()
        if not self._ready.done():
            self._ready.set_exception(lost)
            self._ready.exception()
        calls, self._calls = self._calls, {}
        for call in calls.values():
            _fail(call, lost)
        self._room.set()
        if self._transport is not None:
            self._flush()
            self._transport.close()
        self._lost_hook(self)

    def abort(self) -> None:
        """Without a farewell."""
        if self._transport is not None:
            self._transport.abort()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._transport.set_write_buffer_limits(high=self._limits.write_buffer_bytes)
        self._out.insert(0, GREETING + encode_ready("DEALER"))
        self._loop.call_soon(self._flush)
        self._heard_at = self._pinged_at = self._loop.time()
        self._tick()

    def data_received(self, data: bytes) -> None:
        if self._lost is not None:
            return
        self._heard_at = self._loop.time()
        try:
            for event in self._reader.feed(data):
                if type(event) is list:
                    self._message(event)
                elif isinstance(event, Ping):
                    self._write(encode_pong(event.context))
                elif isinstance(event, Ready):
                    self._ready.set_result(None)
                elif isinstance(event, Refused):
                    self._end(envelope.refusal_from(event.reason))
        except ProtocolError as bad:
            self.close(f"it broke the protocol: {bad.message}")

    def pause_writing(self) -> None:
        self._room.clear()

    def resume_writing(self) -> None:
        self._room.set()

    def eof_received(self) -> bool:
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        if not self.down.done():
            self.down.set_result(None)
        self.close("closed by the server" if exc is None else str(exc))

    def _tick(self) -> None:
        """Signs of life, about three times in the shortest of the intervals."""
        limits = self._limits
        now = self._loop.time()
        if now - self._heard_at > limits.idle_close_s:
            self.close("no sign of life from the server")
            return
        if now - max(self._heard_at, self._pinged_at) > limits.ping_after_s and self._reader.ready:
            self._pinged_at = now
            self._write(encode_ping())
        self._ticker = self._loop.call_later(limits.ping_after_s / 3, self._tick)

    # calls

    async def call(self, method: str, body: bytes, seconds: float, key: str) -> bytes:
        """The raw answer; raises the server's error, LostError, or UnavailableError at the deadline."""
        answer: asyncio.Future[bytes] = self._loop.create_future()
        call_id = self._start(envelope.CALL, method, body, seconds, key)
        self._calls[call_id] = answer
        timer = self._loop.call_later(max(seconds, 0.0), _late, answer)
        try:
            return await answer
        finally:
            timer.cancel()
            if call_id in self._calls:
                self.forget(call_id, cancel=True)

    def open_stream(self, method: str, body: bytes, seconds: float) -> Items:
        call_id = self._start(envelope.STREAM, method, body, seconds, "")
        items = self._calls[call_id] = Items(self, call_id)
        if seconds:
            items.timer = self._loop.call_later(seconds, items.finish, _too_late())
        return items

    def open_upload(self, method: str, body: bytes, seconds: float) -> Upload:
        call_id = self._start(envelope.UPLOAD, method, body, seconds, "")
        upload = self._calls[call_id] = Upload(self, call_id, self._loop.create_future())
        return upload

    def _start(self, kind: int, method: str, body: bytes, seconds: float, key: str) -> int:
        if self._lost is not None:
            raise self._lost
        if len(self._calls) >= self._limits.outstanding:
            raise LimitExceededError("too many calls at once from this process")
        self._next_id += 1
        call_id = self._next_id
        self.send(envelope.start_header(kind, call_id, seconds, method, key), body)
        return call_id

    def forget(self, call_id: int, *, cancel: bool) -> None:
        """Nobody here waits for this call any more; with `cancel` the server is told."""
        if self._calls.pop(call_id, None) is not None and cancel:
            self.send(envelope.encode((envelope.CANCEL, call_id)), b"")
        if self._retired and not self._calls:
            self.close("replaced by a new connection")

    def _message(self, parts: list[bytes]) -> None:
        if len(parts) != 2:
            raise ProtocolError("a message is a header and a body")
        header = envelope.parse_header(parts[0])
        call = self._calls.get(header.call_id)
        if call is None:
            return
        if header.kind == envelope.ITEM and isinstance(call, Items):
            call.put(parts[1])
            return
        if header.kind == envelope.CREDIT and isinstance(call, Upload):
            call.grant(header.number)
            return
        answer = call.answer if isinstance(call, Upload) else call
        if header.kind == envelope.ERROR:
            _fail(call, envelope.decode_error(parts[1]))
        elif header.kind == envelope.ANSWER and isinstance(answer, asyncio.Future):
            if not answer.done():
                answer.set_result(parts[1])
        elif header.kind == envelope.END and isinstance(call, Items):
            call.finish(None)
        else:
            raise ProtocolError("an answer of the wrong kind")
        self.forget(header.call_id, cancel=False)

    # writing

    async def writable(self) -> None:
        """Until the peer takes what was written, or the connection is lost."""
        await self._room.wait()

    def send(self, head: bytes, body: bytes) -> None:
        self._write(encode_message((head, body)))

    def _write(self, data: bytes) -> None:
        if self._lost is not None:
            return
        if not self._out:
            self._loop.call_soon(self._flush)
        self._out.append(data)

    def _flush(self) -> None:
        out, self._out = self._out, []
        if out and self._transport is not None and not self._transport.is_closing():
            self._transport.write(b"".join(out))


def _fail(call: asyncio.Future[bytes] | Items | Upload, error: AccessError) -> None:
    if isinstance(call, Items):
        call.finish(error)
        return
    answer = call.answer if isinstance(call, Upload) else call
    if not answer.done():
        answer.set_exception(error)
        answer.exception()


def _late(answer: asyncio.Future[bytes]) -> None:
    if not answer.done():
        answer.set_exception(_too_late())


def _too_late() -> UnavailableError:
    return UnavailableError("the server did not answer within the deadline", hint="try again")
