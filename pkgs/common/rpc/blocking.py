"""The client of command lines: one blocking socket, no event loop, no threads, and lean imports.

Must not import asyncio, zmq, ssl or cryptography: start-up time counts (a test holds it). The socket comes
connected, and with its TLS handshake done, from whoever dialled.
"""

from __future__ import annotations

import contextlib
import time
from collections import deque
from collections.abc import Iterable, Iterator
from typing import Any, Protocol, TypeVar, cast

from pkgs.common.errors import AccessError, ProtocolError, UnavailableError
from pkgs.common.rpc import envelope
from pkgs.common.rpc.answers import decode_answer, encode_request
from pkgs.common.rpc.calls import Request, StreamRequest, UploadRequest
from pkgs.common.rpc.limits import (
    DEFAULT_CALL_DEADLINE_S,
    KIB,
    STREAM_WINDOW,
    UPLOAD_CHUNK_BYTES,
    UPLOAD_WINDOW,
    WireLimits,
)
from pkgs.common.rpc.wire import (
    GREETING,
    Ping,
    Refused,
    ZmtpReader,
    encode_message,
    encode_pong,
    encode_ready,
)

A = TypeVar("A")

_READ_BYTES = 256 * KIB
_CANCEL_S = 1.0
_NO_DEADLINE_WAIT_S = 3600.0
"""Longest single wait of a stream without a deadline; the wait is then begun anew."""


class Socket(Protocol):
    """What is needed of a socket or an SSLSocket."""

    def sendall(self, data: bytes, /) -> None: ...
    def recv(self, size: int, /) -> bytes: ...
    def settimeout(self, seconds: float | None, /) -> None: ...
    def close(self) -> None: ...


class _Open:
    """What has arrived for one running call and is not read yet."""

    __slots__ = ("arrived", "credit", "taken")

    def __init__(self) -> None:
        self.arrived: deque[tuple[int, bytes]] = deque()
        self.credit = UPLOAD_WINDOW
        self.taken = 0


class BlockingRpcClient:
    """A BlockingClient over a connected socket. Not for several threads."""

    def __init__(self, sock: Socket) -> None:
        self._sock = sock
        self._reader = ZmtpReader(WireLimits(), accept="ROUTER")
        self._open: dict[int, _Open] = {}
        self._next_id = 0
        self._out = GREETING + encode_ready("DEALER")
        self._closed = False

    def __enter__(self) -> BlockingRpcClient:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the socket; what still runs at the server for us is cancelled by that."""
        self._closed = True
        self._sock.close()

    def call(
        self,
        request: Request[A],
        *,
        deadline_s: float = DEFAULT_CALL_DEADLINE_S,
        idempotency_key: str = "",
    ) -> A:
        """The answer, or the error the server gave."""
        call_id, end = self._start(envelope.CALL, request, deadline_s, idempotency_key)
        try:
            kind, body = self._next(call_id, end)
        except AccessError:
            self._forget(call_id, cancel=True)
            raise
        self._forget(call_id, cancel=False)
        return cast(A, self._answer(request, kind, body))

    def stream(self, request: StreamRequest[A], *, deadline_s: float | None = None) -> Iterator[A]:
        """The items as they come. Closing the iterator ends the stream at the server too."""
        call_id, end = self._start(envelope.STREAM, request, deadline_s, "")
        return self._items(call_id, end, request)

    def _items(self, call_id: int, end: float | None, request: StreamRequest[A]) -> Iterator[A]:
        call = self._open[call_id]
        cancel = True
        try:
            while True:
                kind, body = self._next(call_id, end)
                if kind != envelope.ITEM:
                    cancel = False
                if kind == envelope.END:
                    return
                if kind != envelope.ITEM:
                    self._answer(request, kind, body)
                call.taken += 1
                if call.taken * 2 >= STREAM_WINDOW:
                    self._send(envelope.encode((envelope.CREDIT, call_id, call.taken)), b"", end)
                    call.taken = 0
                yield cast(A, decode_answer(type(request), body))
        finally:
            self._forget(call_id, cancel=cancel)

    def upload(
        self, request: UploadRequest[A], chunks: Iterable[bytes], *, deadline_s: float | None = None
    ) -> A:
        """Send the chunks as fast as the handler reads them; its answer."""
        call_id, end = self._start(envelope.UPLOAD, request, deadline_s, "")
        call = self._open[call_id]
        cancel = True
        try:
            for chunk in chunks:
                for at in range(0, len(chunk), UPLOAD_CHUNK_BYTES):
                    while call.credit == 0 and not call.arrived:
                        self._read(end)
                    if call.arrived:
                        break
                    call.credit -= 1
                    head = envelope.encode((envelope.CHUNK, call_id))
                    self._send(head, chunk[at : at + UPLOAD_CHUNK_BYTES], end)
                if call.arrived:
                    break
            else:
                self._send(envelope.encode((envelope.END, call_id)), b"", end)
            kind, body = self._next(call_id, end)
            cancel = False
        finally:
            self._forget(call_id, cancel=cancel)
        return cast(A, self._answer(request, kind, body))

    # inside

    def _start(self, kind: int, request: Any, deadline_s: float | None, key: str) -> tuple[int, float | None]:
        method, body = encode_request(request)
        self._next_id += 1
        call_id = self._next_id
        self._open[call_id] = _Open()
        end = time.monotonic() + deadline_s if deadline_s is not None else None
        self._send(envelope.start_header(kind, call_id, deadline_s or 0.0, method, key), body, end)
        return call_id, end

    def _answer(self, request: Any, kind: int, body: bytes) -> Any:
        if kind == envelope.ERROR:
            raise envelope.decode_error(body)
        if kind != envelope.ANSWER:
            raise self._broken(ProtocolError("an answer of the wrong kind"))
        return decode_answer(type(request), body)

    def _next(self, call_id: int, end: float | None) -> tuple[int, bytes]:
        arrived = self._open[call_id].arrived
        while not arrived:
            self._read(end)
        return arrived.popleft()

    def _read(self, end: float | None) -> None:
        """Take what the server sent, for whichever call."""
        self._wait_at_most(end)
        try:
            data = self._sock.recv(_READ_BYTES)
        except TimeoutError as late:
            if end is None:
                return
            raise UnavailableError(
                "the server did not answer within the deadline", hint="try again"
            ) from late
        except OSError as lost:
            raise self._broken(_lost(str(lost))) from lost
        if not data:
            raise self._broken(_lost("closed by the server"))
        try:
            for event in self._reader.feed(data):
                if type(event) is list:
                    self._message(event)
                elif isinstance(event, Ping):
                    self._write(encode_pong(event.context), end)
                elif isinstance(event, Refused):
                    raise self._broken(envelope.refusal_from(event.reason))
        except ProtocolError as bad:
            raise self._broken(bad) from bad

    def _message(self, parts: list[bytes]) -> None:
        if len(parts) != 2:
            raise ProtocolError("a message is a header and a body")
        header = envelope.parse_header(parts[0])
        call = self._open.get(header.call_id)
        if call is None:
            return
        if header.kind == envelope.CREDIT:
            call.credit += envelope.parse_credit(header.number)
            return
        if len(call.arrived) > STREAM_WINDOW:
            raise ProtocolError("the server sends items without credit")
        call.arrived.append((header.kind, parts[1]))

    def _forget(self, call_id: int, *, cancel: bool) -> None:
        del self._open[call_id]
        if cancel and not self._closed:
            with contextlib.suppress(AccessError):  # a courtesy: the connection's end says the same
                end = time.monotonic() + _CANCEL_S
                self._send(envelope.encode((envelope.CANCEL, call_id)), b"", end)

    def _send(self, head: bytes, body: bytes, end: float | None) -> None:
        self._write(encode_message((head, body)), end)

    def _write(self, data: bytes, end: float | None) -> None:
        if self._closed:
            raise _lost("it was closed")
        self._wait_at_most(end)
        out, self._out = self._out + data, b""
        try:
            self._sock.sendall(out)
        except OSError as lost:
            raise self._broken(_lost(str(lost))) from lost

    def _wait_at_most(self, end: float | None) -> None:
        if end is None:
            self._sock.settimeout(_NO_DEADLINE_WAIT_S)
            return
        left = end - time.monotonic()
        if left <= 0:
            raise UnavailableError("the server did not answer within the deadline", hint="try again")
        self._sock.settimeout(left)

    def _broken(self, error: AccessError) -> AccessError:
        """The connection is of no use any more."""
        self.close()
        return error


def _lost(reason: str) -> UnavailableError:
    return UnavailableError(f"the connection to the server was lost: {reason}", hint="try again")
