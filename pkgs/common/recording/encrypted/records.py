"""One record of the container as bytes. Layout in the room's documentation."""

from __future__ import annotations

import struct
import zlib
from enum import IntEnum
from typing import NamedTuple

from pkgs.common.recording.encrypted import limits
from pkgs.common.recording.encrypted.keys import OVERHEAD, ContentKey, WrappedKey, encode_wrapped

MARKER = b"\xf5\xa9EN"
_HEAD = struct.Struct(">4sB3xI")
_CRC = struct.Struct(">I")
HEAD_SIZE = _HEAD.size + _CRC.size


class RecordType(IntEnum):
    KEY = 1
    DATA = 2


_MOST = {RecordType.KEY: limits.MAX_WRAPPED, RecordType.DATA: limits.MAX_DATA + OVERHEAD}


class Head(NamedTuple):
    """A head whose checksum fits and that asks for no more than the limits."""

    type: RecordType
    size: int
    raw: bytes


def key_record(wrapped: WrappedKey) -> bytes:
    body = encode_wrapped(wrapped)
    return _head(RecordType.KEY, len(body)) + body


def data_record(key: ContentKey, data: bytes) -> bytes:
    if len(data) > limits.MAX_DATA:
        raise ValueError("more than one record holds")
    head = _head(RecordType.DATA, len(data) + OVERHEAD)
    return head + key.lock(data, head)


def parse_head(raw: bytes | bytearray) -> Head | None:
    """The head in the first HEAD_SIZE bytes, or None."""
    head = bytes(raw[: _HEAD.size])
    if len(raw) < HEAD_SIZE or not head.startswith(MARKER):
        return None
    if _CRC.unpack(bytes(raw[_HEAD.size : HEAD_SIZE])) != (zlib.crc32(head),):
        return None
    _, number, size = _HEAD.unpack(head)
    try:
        record_type = RecordType(number)
    except ValueError:
        return None
    if size > _MOST[record_type]:
        return None
    return Head(record_type, size, bytes(raw[:HEAD_SIZE]))


def _head(record_type: RecordType, size: int) -> bytes:
    head = _HEAD.pack(MARKER, record_type, size)
    return head + _CRC.pack(zlib.crc32(head))
