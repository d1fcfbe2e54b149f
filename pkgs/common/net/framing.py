"""Frames of the tunnel protocol: a 2-byte big-endian length and one MessagePack value of a known type.

Decoding is sans-IO and total: bytes give values, "more needed", or a ProtocolError.
"""

from __future__ import annotations

import socket
from typing import Generic, TypeVar

import msgspec

from pkgs.common.errors import ProtocolError, UnavailableError
from pkgs.common.net import limits
from pkgs.common.net.stream import Stream

T = TypeVar("T", bound=msgspec.Struct)


def encode_frame(value: msgspec.Struct) -> bytes:
    body = msgspec.msgpack.encode(value)
    if len(body) > limits.FRAME_MAX:
        raise ProtocolError("the frame is too long", detail=f"{len(body)} bytes")
    return len(body).to_bytes(2, "big") + body


def decode_frame(body: bytes, type_: type[T]) -> T:
    try:
        return msgspec.msgpack.decode(body, type=type_)
    except (msgspec.DecodeError, RecursionError) as exc:
        raise ProtocolError("the frame does not hold what was expected", detail=str(exc)) from exc


def _length(head: bytes | bytearray) -> int:
    length = int.from_bytes(head, "big")
    if not 0 < length <= limits.FRAME_MAX:
        raise ProtocolError("the frame is too long", detail=f"{length} bytes")
    return length


class FrameDecoder(Generic[T]):
    """Takes bytes as they come; gives the values of the frames that are complete."""

    def __init__(self, type_: type[T]) -> None:
        self._type = type_
        self._buffer = bytearray()

    def feed(self, data: bytes) -> list[T]:
        self._buffer += data
        values: list[T] = []
        while len(self._buffer) >= 2:
            end = 2 + _length(self._buffer[:2])
            if len(self._buffer) < end:
                break
            values.append(decode_frame(bytes(self._buffer[2:end]), self._type))
            del self._buffer[:end]
        return values

    @property
    def rest(self) -> bytes:
        """Bytes of a frame that is not complete."""
        return bytes(self._buffer)


async def read_frame(stream: Stream, type_: type[T]) -> T:
    """One frame from a stream; nothing after it is consumed. The caller sets the deadline."""
    length = _length(await stream.read_exactly(2))
    return decode_frame(await stream.read_exactly(length), type_)


def read_frame_blocking(sock: socket.socket, type_: type[T]) -> T:
    """The same from a blocking socket, by its own time-out."""
    length = _length(_receive(sock, 2))
    return decode_frame(_receive(sock, length), type_)


def _receive(sock: socket.socket, count: int) -> bytes:
    received = bytearray()
    while len(received) < count:
        try:
            more = sock.recv(count - len(received))
        except OSError as exc:
            raise UnavailableError("the connection was lost", detail=str(exc)) from exc
        if not more:
            raise UnavailableError("the other side closed the connection")
        received += more
    return bytes(received)
