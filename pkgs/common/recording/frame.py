"""One frame as bytes: packing, and checking a head. Layout in the room's documentation."""

from __future__ import annotations

import hashlib
import struct
import zlib
from dataclasses import dataclass
from enum import IntEnum

from pkgs.common.recording import limits

MAGIC = b"\x89OAREC\r\n"
"""A byte above 127 and a line end: a copy in text mode breaks it visibly."""
VERSION = 1
ENCRYPTED_VERSION = 2
"""The container of the sub-room `encrypted`, around a recording of version 1."""
MARKER = b"\xf5\xa9FR"
GENESIS = bytes(32)

_HEAD = struct.Struct(">4sB3xIII32sI")
_CRC = struct.Struct(">I")
_OPENING_SIZE = len(MAGIC) + 4
_LEVEL = 1
"""Nearly twice as fast as zlib's default for a quarter more bytes: recording must not slow a session down."""
HEAD_SIZE = _HEAD.size + _CRC.size


def header(version: int) -> bytes:
    """What a file of this version begins with."""
    opening = MAGIC + version.to_bytes(2, "big") + bytes(2)
    return opening + _CRC.pack(zlib.crc32(opening))


HEADER = header(VERSION)


class FrameType(IntEnum):
    META = 1
    BATCH = 2
    FOOTER = 3


@dataclass(frozen=True, slots=True)
class Head:
    """A head whose own checksum fits."""

    type: int
    seq: int
    stored: int
    raw: int
    chain: bytes
    payload_crc: int


def version_of(raw: bytes | bytearray) -> int | None:
    """The format version in an undamaged file header; None when this is none."""
    opening, crc = bytes(raw[:_OPENING_SIZE]), bytes(raw[_OPENING_SIZE : len(HEADER)])
    if not opening.startswith(MAGIC) or _CRC.pack(zlib.crc32(opening)) != crc:
        return None
    return int.from_bytes(opening[len(MAGIC) : len(MAGIC) + 2], "big")


def pack(frame_type: FrameType, seq: int, content: bytes, previous: bytes) -> tuple[bytes, bytes]:
    """The frame's bytes, and its chain value."""
    payload = zlib.compress(content, _LEVEL)
    chain = link(previous, frame_type, seq, payload)
    head = _HEAD.pack(MARKER, frame_type, seq, len(payload), len(content), chain, zlib.crc32(payload))
    return head + _CRC.pack(zlib.crc32(head)) + payload, chain


def link(previous: bytes, frame_type: int, seq: int, payload: bytes) -> bytes:
    digest = hashlib.sha256(previous)
    digest.update(bytes([frame_type]) + seq.to_bytes(4, "big"))
    digest.update(payload)
    return digest.digest()


def parse_head(raw: bytes | bytearray | memoryview) -> Head | None:
    """The head in the first HEAD_SIZE bytes; None when they are none, or ask for more than the limits."""
    head = bytes(raw[: _HEAD.size])
    (crc,) = _CRC.unpack(bytes(raw[_HEAD.size : HEAD_SIZE]))
    if not head.startswith(MARKER) or zlib.crc32(head) != crc:
        return None
    _, frame_type, seq, stored, raw_size, chain, payload_crc = _HEAD.unpack(head)
    if stored > limits.MAX_STORED_FRAME or raw_size > limits.MAX_RAW_FRAME:
        return None
    return Head(frame_type, seq, stored, raw_size, chain, payload_crc)


def unpack(head: Head, payload: bytes) -> bytes | None:
    """The content of an undamaged payload, or None. Never inflates beyond the size the head promised."""
    if zlib.crc32(payload) != head.payload_crc:
        return None
    inflate = zlib.decompressobj()
    try:
        content = inflate.decompress(payload, head.raw + 1)
    except zlib.error:
        return None
    if len(content) != head.raw or not inflate.eof or inflate.unused_data:
        return None
    return content
