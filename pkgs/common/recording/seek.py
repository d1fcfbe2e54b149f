"""Going to a moment of a recording without reading what lies before it.

Frames carry their time inside, and a marker that is found from any byte: the file is searched by halves. A
terminal's screen has no known beginning, so what is shown at a moment is made from the output of some
`WINDOW` bytes before it; a program that painted its screen earlier than that, and has not repainted it since,
shows only what changed.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import BinaryIO, NamedTuple

import msgspec

from pkgs.common.recording import frame, limits
from pkgs.common.recording.decoder import Decoder
from pkgs.common.recording.frame import FrameType
from pkgs.common.recording.model import Footer, Item, SessionMeta
from pkgs.common.recording.reader import read_items

WINDOW = 256 * 1024
"""Compressed bytes before the moment that are played at once."""
_NEAR = 64 * 1024
"""The search ends when its halves are so small."""
_READ = 64 * 1024


class _Found(NamedTuple):
    offset: int
    ms: int


class _Start(msgspec.Struct, array_like=True):
    """The beginning of an event, as all of them have it."""

    tag: str
    ms: int


_FIRST = msgspec.msgpack.Decoder(list[_Start])
_FOOTER = msgspec.msgpack.Decoder(Footer)


def items_near(file: BinaryIO, ms: float) -> Iterator[Item]:
    """The metadata, then everything from some way before `ms` on. All of it where the file is small."""
    size = os.fstat(file.fileno()).st_size
    start = _start_for(file, ms, size) if size > 2 * WINDOW else 0
    file.seek(0)
    if start == 0:
        yield from read_items(file)
        return
    opening = Decoder()
    yield from (item for item in opening.feed(file.read(_READ)) if isinstance(item, SessionMeta))
    file.seek(start)
    decoder = Decoder(start=start)
    while chunk := file.read(_READ):
        yield from decoder.feed(chunk)
    yield from decoder.finish()


def end_ms(file: BinaryIO) -> int:
    """The time of the last thing in the file; 0 when nothing near its end can be read."""
    size = os.fstat(file.fileno()).st_size
    last = 0
    for back in (_NEAR, 2 * limits.MAX_STORED_FRAME):
        at = max(size - back, 0)
        while (found := _frame_from(file, at, size)) is not None:
            last, at = found.ms, found.offset + frame.HEAD_SIZE
        if last:
            return last
    return last


def _start_for(file: BinaryIO, ms: float, size: int) -> int:
    low, high = 0, size
    while high - low > _NEAR:
        middle = (low + high) // 2
        found = _frame_from(file, middle, high)
        if found is None or found.ms > ms:
            high = middle
        else:
            low = found.offset
    found = _frame_from(file, max(low - WINDOW, 0), size)
    # What lies before the first batch is the metadata, which is read in any case.
    return found.offset if found is not None and found.offset > WINDOW // 4 else 0


def _frame_from(file: BinaryIO, at: int, end: int) -> _Found | None:
    """The first whole frame with a time in it that begins in this part of the file."""
    fd = file.fileno()
    while at < end:
        block = os.pread(fd, _READ, at)
        place = block.find(frame.MARKER)
        if place < 0:
            if len(block) < _READ:
                return None
            at += len(block) - len(frame.MARKER) + 1
            continue
        at += place
        raw = os.pread(fd, frame.HEAD_SIZE, at)
        head = frame.parse_head(raw) if len(raw) == frame.HEAD_SIZE else None
        if head is not None and at < end:
            content = frame.unpack(head, os.pread(fd, head.stored, at + frame.HEAD_SIZE))
            ms = None if content is None else _time_in(head.type, content)
            if ms is not None:
                return _Found(at, ms)
        at += 1
    return None


def _time_in(frame_type: int, content: bytes) -> int | None:
    try:
        if frame_type == FrameType.BATCH:
            events = _FIRST.decode(content)
            return events[0].ms if events else None
        return _FOOTER.decode(content).ms if frame_type == FrameType.FOOTER else None
    except (msgspec.DecodeError, UnicodeDecodeError):
        return None
