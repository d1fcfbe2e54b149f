"""The files of a spool: segments of records, a cursor, and what the Auth Service has refused.

A segment is a sequence of records: 4-byte length, 4-byte CRC-32 of the payload (both big-endian), payload
(the event as MessagePack). A process never appends to a segment of an earlier process, so a torn record can
only be a segment's last, and reading goes on with the next.

Everything here blocks, and raises OSError when the disk fails.
"""

from __future__ import annotations

import fcntl
import logging
import os
import struct
import zlib
from collections.abc import Iterator
from pathlib import Path

import msgspec

from pkgs.common.errors import UnavailableError
from pkgs.common.events import limits
from pkgs.common.events.format import to_json
from pkgs.common.events.types import Event
from pkgs.common.runtime.atomicfile import make_private_dir, sync_dir, write_atomic

_HEAD = struct.Struct(">II")
_DECODER = msgspec.msgpack.Decoder(Event)


class Place(msgspec.Struct, frozen=True, order=True):
    """A position in the spool."""

    segment: int
    offset: int


def record_of(payload: bytes) -> bytes:
    return _HEAD.pack(len(payload), zlib.crc32(payload)) + payload


def event_in(record: bytes) -> Event:
    """Of a record that this process has written."""
    return _DECODER.decode(record[_HEAD.size :])


class SpoolFiles:
    """A spool's directory. Open it first; one process at a time has it open."""

    def __init__(self, directory: Path, log: logging.Logger) -> None:
        self._dir = directory
        self._log = log
        self._lock_fd = -1
        self.sizes: dict[int, int] = {}
        """Bytes of every segment that is kept."""

    def open(self) -> tuple[Place, int]:
        """The cursor, and how many events an earlier process left behind it. Raises UnavailableError when
        another process has it open."""
        make_private_dir(self._dir)
        self._lock()
        cursor = self._load_cursor()
        waiting = 0
        for path in sorted(self._dir.glob("*.seg")):
            number = int(path.stem)
            if number < cursor.segment:
                path.unlink()
                continue
            self.sizes[number] = path.stat().st_size
            start = cursor.offset if number == cursor.segment else 0
            waiting += sum(1 for _ in _records(path, start))
        return cursor, waiting

    def close(self) -> None:
        if self._lock_fd >= 0:
            os.close(self._lock_fd)
        self._lock_fd = -1

    def _lock(self) -> None:
        self._lock_fd = os.open(self._dir / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(self._lock_fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            self.close()
            raise UnavailableError(
                f"another process uses the audit spool {self._dir}", hint="one service per data directory"
            ) from None

    def _load_cursor(self) -> Place:
        try:
            return msgspec.json.decode((self._dir / "cursor").read_bytes(), type=Place)
        except FileNotFoundError:
            return Place(0, 0)
        except msgspec.DecodeError:
            self._log.warning("the audit spool's cursor is damaged: everything kept is delivered again")
            return Place(0, 0)

    def _path(self, segment: int) -> Path:
        return self._dir / f"{segment:010d}.seg"

    def new_segment(self, number: int) -> int:
        """A descriptor that appends to it, empty."""
        fd = os.open(
            self._path(number), os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_APPEND | os.O_CLOEXEC, 0o600
        )
        sync_dir(self._dir)
        return fd

    def read_batch(self, cursor: Place, end: Place) -> tuple[list[Event], list[Place]]:
        """The next events after the cursor and before the end, each with the place after it."""
        events: list[Event] = []
        places: list[Place] = []
        segment, offset = cursor.segment, cursor.offset
        while segment <= end.segment:
            path = self._path(segment)
            bound = end.offset if segment == end.segment else self.sizes.get(segment)
            if path.exists():
                start = offset
                for event, after in _records(path, offset, bound):
                    events.append(event)
                    places.append(Place(segment, after))
                    if len(events) >= limits.SPOOL_BATCH or after - start >= limits.SPOOL_BATCH_BYTES:
                        return events, places
            # A batch ends with its segment, so that a batch's bytes are those between two offsets.
            if events:
                return events, places
            segment, offset = segment + 1, 0
        return events, places

    def keep_cursor(self, place: Place) -> None:
        """Everything before it is delivered, and what no segment holds any more goes."""
        write_atomic(self._dir / "cursor", msgspec.json.encode(place))
        for number in [number for number in list(self.sizes) if number < place.segment]:
            self._path(number).unlink(missing_ok=True)
            del self.sizes[number]

    def set_aside(self, event: Event) -> None:
        """For whoever looks after an event that the Auth Service does not take."""
        fd = os.open(
            self._dir / "refused.jsonl", os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600
        )
        try:
            os.write(fd, to_json(event) + b"\n")
        finally:
            os.close(fd)


def _records(path: Path, start: int, bound: int | None = None) -> Iterator[tuple[Event, int]]:
    """Whole, undamaged events from `start`, each with the offset after it; stops at the first other bytes."""
    with path.open("rb") as file:
        file.seek(start)
        offset = start
        while bound is None or offset < bound:
            head = file.read(_HEAD.size)
            if len(head) < _HEAD.size:
                return
            length, crc = _HEAD.unpack(head)
            if not 0 < length <= limits.SPOOL_RECORD_BYTES:
                return
            payload = file.read(length)
            if len(payload) < length or zlib.crc32(payload) != crc:
                return
            try:
                event = _DECODER.decode(payload)
            except msgspec.DecodeError:
                return
            offset += _HEAD.size + length
            yield event, offset
