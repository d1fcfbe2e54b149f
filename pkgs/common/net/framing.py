"""Frames of the tunnel protocol: a 2-byte big-endian length and one MessagePack value of a known type.

Decoding is total: bytes give a value or a ProtocolError.
"""

from __future__ import annotations

from typing import TypeVar

import msgspec

from pkgs.common.errors import ProtocolError
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


async def read_frame(stream: Stream, type_: type[T]) -> T:
    """One frame from a stream; nothing after it is consumed. The caller sets the deadline."""
    length = _length(await stream.read_exactly(2))
    return decode_frame(await stream.read_exactly(length), type_)
