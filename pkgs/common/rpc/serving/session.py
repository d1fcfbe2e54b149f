"""One admitted connection on the server: its caller, its running calls, its credit and its limits."""

from __future__ import annotations

import asyncio
import logging
import secrets
import time
from collections import deque
from collections.abc import AsyncGenerator
from typing import Any, Protocol

from pkgs.common.errors import (
    AccessError,
    DeniedError,
    InputError,
    InternalError,
    LimitExceededError,
    ProtocolError,
    UnavailableError,
)
from pkgs.common.rpc import envelope
from pkgs.common.rpc.calls import Caller
from pkgs.common.rpc.envelope import Header
from pkgs.common.rpc.limits import (
    MAX_CREDIT,
    ServerLimits,
)
from pkgs.common.rpc.registry import Method, Registry
from pkgs.common.rpc.serving.guard import STOP_BACKLOG, Guard
from pkgs.common.rpc.serving.replay import Replays, Reply
from pkgs.common.rpc.serving.running import Call, Chunks

_PASSING = (UnavailableError, LimitExceededError, InternalError)


class Host(Protocol):
    """The server, as far as a session knows it."""

    limits: ServerLimits
    registry: Registry
    replays: Replays
    log: logging.Logger
    draining: bool
    orphans: set[asyncio.Task[None]]
    """Calls whose connection is gone: cancelled, or, with an idempotency key, running to their end."""

    def route(self, session_id: bytes, head: bytes, body: bytes) -> None:
        """Give a message to the ROUTER."""


class Session:
    """What one peer has going on."""

    def __init__(self, host: Host, guard: Guard, caller: Caller) -> None:
        self.caller = caller
        self.guard = guard
        self._host = host
        self._limits = host.limits
        self._id = guard.session_id
        self._calls: dict[int, Call] = {}
        self._streams = 0
        self._permitted: set[str] = set()
        """Methods this caller was found to be allowed; who is calling never changes here."""
        self._backlog: deque[tuple[bytes, bytes]] = deque()
        self._backlog_bytes = 0
        self._out_bytes = 0
        self._out_messages = 0
        self._room = asyncio.Event()
        self._room.set()
        self._closed = False

    @property
    def busy(self) -> int:
        """Calls, not counting streams."""
        return len(self._calls) - self._streams

    # messages from the peer

    def message(self, head: bytes, body: bytes) -> None:
        """Act on one message. Raises ProtocolError when the peer is to be dropped."""
        header = envelope.parse_header(head)
        kind = header.kind
        if kind in (envelope.CALL, envelope.STREAM, envelope.UPLOAD):
            self._start(header, body)
            return
        call = self._calls.get(header.call_id)
        if kind == envelope.CHUNK:
            if call is not None:
                if call.chunks is None:
                    raise ProtocolError("a chunk for a call that is no upload")
                call.chunks.put(body)
        elif kind == envelope.END:
            if call is not None and call.chunks is not None:
                call.chunks.end()
        elif kind == envelope.CREDIT:
            number = envelope.parse_credit(header.number)
            if call is not None and call.granted is not None:
                call.credit += number
                if call.credit > MAX_CREDIT:
                    raise ProtocolError("credit out of range")
                call.granted.set()
        elif kind == envelope.CANCEL:
            if call is not None and not call.key:
                call.abandoned = True
                self._stop(header.call_id, call, None)
        else:
            raise ProtocolError("a message of unknown kind")

    def _start(self, header: Header, body: bytes) -> None:
        call_id = header.call_id
        if call_id in self._calls:
            raise ProtocolError("a call id is used twice at once")
        joined: asyncio.Future[Reply] | None = None
        try:
            method = self._admit(header)
            request = envelope.decode_body(method.decoder, body)
            if header.key:
                joined = self._host.replays.begin(self.caller, method.name, header.key, body)
        except AccessError as refusal:
            self._send(envelope.ERROR, call_id, envelope.encode_error(refusal))
            return
        call = Call(header)
        if joined is not None:
            work = self._join(call_id, call, joined)
        elif header.kind == envelope.CALL:
            work = self._run_unary(call_id, call, method, request, header.key)
        elif header.kind == envelope.STREAM:
            call.granted = asyncio.Event()
            work = self._run_stream(call_id, call, method, request)
        else:
            call.chunks = Chunks(lambda n: self._send_credit(call_id, n))
            work = self._run_upload(call_id, call, method, request)
        loop = asyncio.get_running_loop()
        self._calls[call_id] = call
        self._streams += call.streaming
        if seconds := self._deadline(header):
            call.timer = loop.call_later(seconds, self._expire, call_id, call)
        call.task = loop.create_task(work)

    def _admit(self, header: Header) -> Method:
        """The method, if this caller may call it now. Who may not learns nothing about the body."""
        method = self._host.registry.get(header.method)
        if method is None or method.kind != header.kind:
            raise InputError("the server knows no such call", hint="use the same version on both sides")
        identity = self.caller.identity
        if identity is not None and identity.expires_at and identity.expires_at <= time.time():
            raise DeniedError("the certificate has expired", hint="log in again with `tsh login`")
        if method.name not in self._permitted:
            if not self.caller.may_be(method.callers):
                raise DeniedError("this call is not for you")
            self._permitted.add(method.name)
        if header.key and header.kind != envelope.CALL:
            raise InputError("only a plain call takes an idempotency key")
        if self._host.draining:
            raise UnavailableError("the server is shutting down", hint="try again")
        if header.kind == envelope.CALL:
            if self.busy >= self._limits.calls_per_connection:
                raise LimitExceededError("too many calls at once on one connection")
        elif self._streams >= self._limits.streams_per_connection:
            raise LimitExceededError("too many streams at once on one connection")
        return method

    def _deadline(self, header: Header) -> float:
        """Seconds granted; 0 (no deadline) only for streams and uploads."""
        asked = header.number / 1000
        if header.kind == envelope.CALL:
            return min(asked or self._limits.default_deadline_s, self._limits.max_deadline_s)
        return asked

    # running

    def _expire(self, call_id: int, call: Call) -> None:
        call.late = True
        self._stop(call_id, call, _LATE)

    def _stop(self, call_id: int, call: Call, reply: Reply | None) -> None:
        """Cancel. A task that has not begun never comes to its own ending, so that is done for it."""
        if call.task is not None:
            call.task.cancel()
        if not call.begun:
            if call.key:
                self._host.replays.finish(self.caller, call.method, call.key, _LOST)
            self._finish(call_id, call, reply)

    async def _run_unary(self, call_id: int, call: Call, method: Method, request: Any, key: str) -> None:
        call.begun = True
        reply: Reply | None = None
        try:
            reply = Reply(envelope.ANSWER, self._encode(await method.handler(self.caller, request)))
        except BaseException as failure:  # answered or raised again by _failed
            reply = self._failed(call, method, failure)
        finally:
            if key:
                self._host.replays.finish(self.caller, method.name, key, reply or _LOST)
            self._finish(call_id, call, reply)

    async def _join(self, call_id: int, call: Call, joined: asyncio.Future[Reply]) -> None:
        call.begun = True
        reply: Reply | None = None
        try:
            reply = await asyncio.shield(joined)
        except asyncio.CancelledError:
            reply = _LATE if call.late else None
        finally:
            self._finish(call_id, call, reply)

    async def _run_stream(self, call_id: int, call: Call, method: Method, request: Any) -> None:
        call.begun = True
        items: AsyncGenerator[Any, None] = method.handler(self.caller, request)
        granted = call.granted
        assert granted is not None
        reply: Reply | None = None
        try:
            while True:
                while call.credit == 0:
                    granted.clear()
                    await granted.wait()
                if not self._room.is_set():
                    await self._room.wait()
                try:
                    item = await anext(items)
                except StopAsyncIteration:
                    break
                call.credit -= 1
                self._send(envelope.ITEM, call_id, self._encode(item))
            reply = Reply(envelope.END, b"")
        except BaseException as failure:  # answered or raised again by _failed
            reply = self._failed(call, method, failure)
        finally:
            self._finish(call_id, call, reply)
            await items.aclose()

    async def _run_upload(self, call_id: int, call: Call, method: Method, request: Any) -> None:
        call.begun = True
        reply: Reply | None = None
        try:
            answer = await method.handler(self.caller, request, call.chunks)
            reply = Reply(envelope.ANSWER, self._encode(answer))
        except BaseException as failure:  # answered or raised again by _failed
            reply = self._failed(call, method, failure)
        finally:
            self._finish(call_id, call, reply)

    def _encode(self, answer: Any) -> bytes:
        raw = envelope.encode(answer)
        if len(raw) > self._limits.wire.frame_bytes:
            raise LimitExceededError("the answer is too long", hint="ask for less at once")
        return raw

    def _failed(self, call: Call, method: Method, failure: BaseException) -> Reply | None:
        """What the peer is told of a failure; None when nobody waits for it."""
        if isinstance(failure, AccessError):
            if failure.detail:
                self._host.log.info("call %s: %s (%s)", method.name, failure.message, failure.detail)
            return Reply(
                envelope.ERROR, envelope.encode_error(failure), lasting=not isinstance(failure, _PASSING)
            )
        if isinstance(failure, asyncio.CancelledError) and (call.late or call.abandoned or self._closed):
            return _LATE if call.late else None
        if isinstance(failure, Exception | asyncio.CancelledError):
            trouble = secrets.token_hex(6)
            self._host.log.error("call %s failed, id %s", method.name, trouble, exc_info=failure)
            error = InternalError(
                f"the server failed to carry this out (id {trouble})",
                hint="the server's log has more under this id",
            )
            return Reply(envelope.ERROR, envelope.encode_error(error), lasting=False)
        raise failure

    def _finish(self, call_id: int, call: Call, reply: Reply | None) -> None:
        if call.timer is not None:
            call.timer.cancel()
        if self._calls.get(call_id) is call:
            del self._calls[call_id]
            self._streams -= call.streaming
        if reply is not None:
            self._send(reply.kind, call_id, reply.body)

    # messages to the peer

    def _send(self, kind: int, call_id: int, body: bytes) -> None:
        self._put(envelope.encode((kind, call_id)), body)

    def _send_credit(self, call_id: int, number: int) -> None:
        self._put(envelope.encode((envelope.CREDIT, call_id, number)), b"")

    def _put(self, head: bytes, body: bytes) -> None:
        """Send now if the window allows it, else later; libzmq never holds more than the window."""
        if self._closed:
            return
        limits = self._limits
        if (
            self._backlog
            or self._out_messages >= limits.outbound_messages
            or self._out_bytes > limits.outbound_bytes
        ):
            self._backlog.append((head, body))
            self._backlog_bytes += len(head) + len(body)
            if self._backlog_bytes > limits.backlog_drop_bytes:
                self.guard.close("does not read its answers")
            elif self._backlog_bytes > limits.backlog_bytes:
                self.guard.stop(STOP_BACKLOG)
            self._room.clear()
            return
        self._route(head, body)

    def _route(self, head: bytes, body: bytes) -> None:
        self._out_messages += 1
        self._out_bytes += len(head) + len(body)
        self._host.route(self._id, head, body)

    def relayed(self, messages: int, payload: int) -> None:
        """The guard gave so much of what was sent to the peer."""
        self._out_messages -= messages
        self._out_bytes -= payload
        if not self._backlog:
            return
        limits = self._limits
        while (
            self._backlog
            and self._out_messages < limits.outbound_messages
            and self._out_bytes <= limits.outbound_bytes
        ):
            head, body = self._backlog.popleft()
            self._backlog_bytes -= len(head) + len(body)
            self._route(head, body)
        if self._backlog_bytes <= limits.backlog_bytes // 2:
            self.guard.go_on(STOP_BACKLOG)
        if not self._backlog:
            self._room.set()

    # the end

    def end_streams(self) -> None:
        """The server shuts down: streams end with an error that invites to come back."""
        for call_id, call in list(self._calls.items()):
            if call.streaming:
                error = UnavailableError("the server is shutting down", hint="try again")
                reply = Reply(envelope.ERROR, envelope.encode_error(error))
                call.abandoned = True
                self._finish(call_id, call, reply)
                self._stop(call_id, call, None)

    def drop(self) -> None:
        """The peer has gone. What it had running is cancelled, but for calls it may ask again about."""
        self._closed = True
        self._backlog.clear()
        self._room.set()
        for call in self._calls.values():
            if call.task is None:
                continue
            self._host.orphans.add(call.task)
            call.task.add_done_callback(self._host.orphans.discard)
            if not call.key:
                call.abandoned = True
                call.task.cancel()
        self._calls.clear()
        self._streams = 0


_LATE = Reply(
    envelope.ERROR,
    envelope.encode_error(UnavailableError("the deadline of the call has passed", hint="try again")),
    lasting=False,
)
_LOST = Reply(
    envelope.ERROR,
    envelope.encode_error(UnavailableError("the call was cut short", hint="try again")),
    lasting=False,
)
