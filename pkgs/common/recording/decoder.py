"""Bytes of a recording in, items out. No I/O; nothing that the bytes say makes it hold more than one frame.

    header --ok--> frames --footer--> ended
      |  damaged     |  unknown version, or too long
      +--> frames    +--> stopped

Damage never raises: it becomes a `Damage` item, and reading goes on with the next frame that is whole
(attack A61). Sizes and times are brought within the limits, so that a player may believe them.
"""

from __future__ import annotations

import hmac
import math
from collections.abc import Iterator
from enum import Enum, auto
from typing import Annotated

import msgspec

from pkgs.common.recording import frame, limits
from pkgs.common.recording.frame import FrameType, Head
from pkgs.common.recording.ids import is_session_id
from pkgs.common.recording.model import Damage, Footer, Item, Output, Resize, SessionMeta, TimedEvent

_META = msgspec.msgpack.Decoder(SessionMeta)
_BATCH = msgspec.msgpack.Decoder(
    Annotated[list[TimedEvent], msgspec.Meta(max_length=limits.MAX_EVENTS_IN_FRAME)]
)
_FOOTER = msgspec.msgpack.Decoder(Footer)


class _State(Enum):
    HEADER = auto()
    FRAMES = auto()
    ENDED = auto()
    STOPPED = auto()


class Decoder:
    """Feed it the file's bytes in order, then call `finish`."""

    def __init__(self, *, start: int = 0) -> None:
        """With `start` the bytes begin there, with a whole frame: nothing is known of what lies before."""
        self._state = _State.FRAMES if start else _State.HEADER
        self._buffer = bytearray()
        self._offset = start
        """Of the buffer's first byte in the file."""
        self._seq: int | None = None if start else 0
        """The next frame's number; None: whatever it says."""
        self._chain: bytes | None = None if start else frame.GENESIS
        """None behind damage: nothing to check the next frame's link against."""
        self._size: tuple[int, int] | None = None
        """Of the terminal, as far as it is known."""
        self.chained = 0
        """Frames so far that follow one from the other, from the first on."""
        self.chain_before_end = b""
        """Chain value of the last frame before the footer, once that has come and follows from it."""
        self._raw_total = 0
        self._last_ms = 0
        self._lost = False
        """Looking for the next frame's marker."""
        self._damages = 0

    def feed(self, data: bytes) -> Iterator[Item]:
        """What `data` completes. Take all of it before feeding more."""
        self._buffer += data
        return self._drain()

    def finish(self) -> Iterator[Item]:
        """No more bytes: what is left, and a report if the recording has no end."""
        yield from self._drain()
        if self._state in (_State.HEADER, _State.FRAMES):
            left = len(self._buffer)
            end = self._offset + left
            self._state = _State.STOPPED
            inside = f", {left} bytes into a frame" if left else ""
            yield Damage(offset=end, problem=f"the recording ends without its footer{inside}", cut=True)

    def _drain(self) -> Iterator[Item]:
        while True:
            if self._state is _State.HEADER:
                if len(self._buffer) < len(frame.HEADER):
                    return
                yield from self._header()
            elif self._state is _State.FRAMES:
                if self._lost and not self._find_marker():
                    return
                if len(self._buffer) < frame.HEAD_SIZE:
                    return
                head = frame.parse_head(self._buffer)
                if head is None:
                    yield from self._lose()
                    continue
                if len(self._buffer) < frame.HEAD_SIZE + head.stored:
                    return
                self._lost = False
                payload = bytes(self._buffer[frame.HEAD_SIZE : frame.HEAD_SIZE + head.stored])
                yield from self._frame(head, payload)
                self._drop(frame.HEAD_SIZE + head.stored)
            else:
                if self._buffer and self._state is _State.ENDED:
                    self._state = _State.STOPPED
                    yield from self._damage("there are bytes behind the footer")
                self._drop(len(self._buffer))
                return

    def _header(self) -> Iterator[Item]:
        version = frame.version_of(self._buffer)
        if version is None:
            # Perhaps only these bytes are damaged: the frames are found by their markers.
            self._state = _State.FRAMES
            yield from self._lose("this is not the header of a recording")
            return
        self._drop(len(frame.HEADER))
        self._state = _State.FRAMES
        if version == frame.ENCRYPTED_VERSION:
            self._state = _State.STOPPED
            yield from self._damage(
                "this recording is encrypted: only the Auth Service of its cluster opens it"
            )
        elif version != frame.VERSION:
            self._state = _State.STOPPED
            yield from self._damage(f"format version {version} is not known to this program")

    def _lose(self, problem: str = "these bytes are no frame") -> Iterator[Item]:
        if not self._lost:
            yield from self._damage(problem)
        self._lost = True
        self._chain = None
        self._drop(1)

    def _find_marker(self) -> bool:
        at = self._buffer.find(frame.MARKER)
        if at < 0:
            # The marker may have begun in the last bytes.
            self._drop(max(len(self._buffer) - len(frame.MARKER) + 1, 0))
            return False
        self._drop(at)
        return True

    def _frame(self, head: Head, payload: bytes) -> Iterator[Item]:
        due = head.seq if self._seq is None else self._seq
        if head.seq < due:
            yield from self._damage(f"frame {head.seq} comes a second time")
            return
        if head.seq > due:
            missing = head.seq - due
            yield from self._damage(
                f"{missing} frame{'s are' if missing > 1 else ' is'} missing before {head.seq}"
            )
            self._chain = None
        expected, self._chain, self._seq = self._chain, head.chain, head.seq + 1
        content = frame.unpack(head, payload)
        if content is None:
            yield from self._damage(f"frame {head.seq} is damaged")
            return
        linked = frame.link(expected, head.type, head.seq, payload) if expected is not None else head.chain
        if not hmac.compare_digest(linked, head.chain):
            yield from self._damage(f"frame {head.seq} does not follow from the one before it")
        elif expected is not None:
            self.chained += head.seq == self.chained
            if head.type == FrameType.FOOTER:
                self.chain_before_end = expected
        self._raw_total += len(content)
        if self._raw_total > limits.MAX_RAW_TOTAL:
            self._state = _State.STOPPED
            yield from self._damage(f"the recording is longer than {limits.MAX_RAW_TOTAL} bytes")
            return
        yield from self._content(head, content)

    def _content(self, head: Head, content: bytes) -> Iterator[Item]:
        try:
            if head.type == FrameType.META:
                yield from self._meta(head.seq, _META.decode(content))
            elif head.type == FrameType.BATCH:
                for event in _BATCH.decode(content):
                    if (timed := self._timed(event)) is not None:
                        yield timed
            elif head.type == FrameType.FOOTER:
                footer = _FOOTER.decode(content)
                self._state = _State.ENDED
                yield msgspec.structs.replace(footer, ms=self._ms(footer.ms), ended=_sane_time(footer.ended))
            else:
                yield from self._damage(f"frame {head.seq} has the unknown type {head.type}")
        except (msgspec.DecodeError, UnicodeDecodeError):
            yield from self._damage(f"frame {head.seq} does not hold what its type says")

    def _meta(self, seq: int, meta: SessionMeta) -> Iterator[Item]:
        if seq != 0 or not is_session_id(meta.session_id):
            yield from self._damage("the metadata is not at the beginning, or has no session id")
            return
        self._size = _sane_size(meta.cols, meta.rows)
        cols, rows = self._size
        yield msgspec.structs.replace(meta, cols=cols, rows=rows, started=_sane_time(meta.started))

    def _timed(self, event: TimedEvent) -> TimedEvent | None:
        ms = self._ms(event.ms)
        if isinstance(event, Resize):
            size = _sane_size(event.cols, event.rows)
            if size == self._size:
                return None  # said again, for those who begin to read here
            self._size = size
            return Resize(ms, *size)
        if isinstance(event, Output) and event.ms == ms:
            return event
        return msgspec.structs.replace(event, ms=ms)

    def _ms(self, ms: int) -> int:
        self._last_ms = min(max(self._last_ms, ms), limits.MAX_MS)
        return self._last_ms

    def _damage(self, problem: str) -> Iterator[Item]:
        self._damages += 1
        if self._damages < limits.MAX_DAMAGE_REPORTS:
            yield Damage(offset=self._offset, problem=problem)
        elif self._damages == limits.MAX_DAMAGE_REPORTS:
            yield Damage(offset=self._offset, problem="there is more damage, which is not listed")

    def _drop(self, count: int) -> None:
        del self._buffer[:count]
        self._offset += count


def _sane_size(cols: int, rows: int) -> tuple[int, int]:
    return min(max(cols, 1), limits.MAX_COLS), min(max(rows, 1), limits.MAX_ROWS)


def _sane_time(unix_s: float) -> float:
    return unix_s if math.isfinite(unix_s) and 0 <= unix_s <= limits.MAX_UNIX_S else 0.0
