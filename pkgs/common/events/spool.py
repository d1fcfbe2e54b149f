"""The disk spool between a service and the Auth Service: durable first, delivered later, in order, once.

`emit` returns when the event is on disk (many emits share one fsync). A background task hands events to
`deliver` in the order of emission and moves a cursor when they were taken. A crash at any moment loses no
event that `emit` returned for; it may deliver the last batches twice, and the receiver ignores a known uid.

A spool is a directory of segments. A segment is a sequence of records: 4-byte length, 4-byte CRC-32 of
the payload (both big-endian), payload (the event as MessagePack). A process never appends to a segment
of an earlier process, so a torn record can only be a segment's last, and reading goes on with the next.

When full, or when the disk is, `emit` refuses: what cannot be audited is not done.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import logging
import os
import struct
import zlib
from collections import deque
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import msgspec

from pkgs.common.errors import InputError, UnavailableError
from pkgs.common.events import limits
from pkgs.common.events.format import encoded, to_json
from pkgs.common.events.types import Event
from pkgs.common.runtime.atomicfile import make_private_dir, sync_dir, write_atomic
from pkgs.common.runtime.backoff import Backoff

Deliver = Callable[[list[Event]], Awaitable[None]]
"""Takes events for good, or raises. Events refused with InputError are set aside, others retried for ever."""

_HEAD = struct.Struct(">II")
_DECODER = msgspec.msgpack.Decoder(Event)


class _Place(msgspec.Struct, frozen=True, order=True):
    """A position in the spool; everything before it is delivered."""

    segment: int
    offset: int


class _Waiting(NamedTuple):
    """Events that are to be written together, as they will be, and who waits for that."""

    events: list[Event]
    records: list[bytes]
    done: asyncio.Future[None]


class _Kept(NamedTuple):
    """An event on disk, and where it is."""

    event: Event
    start: _Place
    end: _Place


class SpoolEmitter:
    """An `Emitter` over a spool directory. One process at a time; start, then emit, then close."""

    def __init__(
        self,
        directory: Path,
        deliver: Deliver,
        *,
        log: logging.Logger | None = None,
        max_bytes: int = limits.SPOOL_MAX_BYTES,
        segment_bytes: int = limits.SPOOL_SEGMENT_BYTES,
        retry_first_s: float = limits.RETRY_FIRST_S,
        retry_limit_s: float = limits.RETRY_LIMIT_S,
    ) -> None:
        self._dir = directory
        self._deliver = deliver
        self._log = log or logging.getLogger("events.spool")
        self._max_bytes = max_bytes
        self._segment_bytes = segment_bytes
        self._backoff = Backoff(retry_first_s, retry_limit_s)
        self._lock_fd = -1
        self._fd = -1
        self._end = _Place(0, 0)
        self._cursor = _Place(0, 0)
        self._kept_at = 0.0
        """Loop time at which the cursor was last written."""
        self._sizes: dict[int, int] = {}
        self._pending = 0
        self._waiting: list[_Waiting] = []
        self._waiting_bytes = 0
        self._latest: deque[_Kept] = deque(maxlen=limits.SPOOL_IN_MEMORY)
        """Of what is on disk, in its order up to the end; what was delivered goes."""
        self._written = asyncio.Event()
        self._emptied = asyncio.Event()
        self._to_write = asyncio.Event()
        self._closing = False
        self._tasks: list[asyncio.Task[None]] = []

    @property
    def pending(self) -> int:
        """Events on disk that were not yet delivered."""
        return self._pending

    async def start(self) -> None:
        """Open the spool, count what an earlier process left, and begin to deliver it."""
        await asyncio.to_thread(self._open)
        self._note_level()
        if self._pending:
            self._log.info("%d audit events of an earlier run wait for delivery", self._pending)
        self._tasks = [
            asyncio.create_task(self._write_loop(), name="event-spool-write"),
            asyncio.create_task(self._deliver_loop(), name="event-spool-deliver"),
        ]

    async def emit(self, *events: Event) -> None:
        """Return once the events are on disk; raises UnavailableError when they cannot be kept."""
        if self._closing or not self._tasks:
            raise UnavailableError("this service is stopping and takes no more audit events")
        waiting = _Waiting([], [], asyncio.get_running_loop().create_future())
        size = 0
        for event in events:
            kept, payload = encoded(event)
            record = _HEAD.pack(len(payload), zlib.crc32(payload)) + payload
            waiting.events.append(kept)
            waiting.records.append(record)
            size += len(record)
        if sum(list(self._sizes.values())) + self._waiting_bytes + size > self._max_bytes:
            raise UnavailableError(
                "the audit spool is full, so nothing that must be audited is done",
                hint=f"reach the Auth Service again, or make room; the limit is {self._max_bytes} bytes",
            )
        self._waiting.append(waiting)
        self._waiting_bytes += size
        self._to_write.set()
        # A cancelled caller must not cancel the write that others may share.
        await asyncio.shield(waiting.done)

    async def flush(self, deadline_s: float) -> bool:
        """Wait until everything is delivered; False when that took longer than the deadline."""
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._emptied.wait(), deadline_s)
        return self._pending == 0 and not self._waiting

    async def close(self) -> None:
        """Write what was emitted, stop delivering, keep the rest on disk for the next start."""
        self._closing = True
        self._to_write.set()
        if self._tasks:
            await self._tasks[0]
            self._tasks[1].cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._tasks[1]
            self._tasks = []
            with contextlib.suppress(OSError):
                # What was delivered since is delivered again, and ignored, where this fails.
                self._keep_cursor(self._cursor)
        for fd in (self._fd, self._lock_fd):
            if fd >= 0:
                os.close(fd)
        self._fd = self._lock_fd = -1

    # Opening.

    def _open(self) -> None:
        make_private_dir(self._dir)
        self._lock_fd = os.open(self._dir / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(self._lock_fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            os.close(self._lock_fd)
            self._lock_fd = -1
            raise UnavailableError(
                f"another process uses the audit spool {self._dir}", hint="one service per data directory"
            ) from None
        self._cursor = self._load_cursor()
        last = self._cursor.segment
        for path in sorted(self._dir.glob("*.seg")):
            number = int(path.stem)
            last = max(last, number)
            if number < self._cursor.segment:
                path.unlink()
                continue
            self._sizes[number] = path.stat().st_size
            start = self._cursor.offset if number == self._cursor.segment else 0
            self._pending += sum(1 for _ in _records(path, start))
        self._end = _Place(last, self._sizes.get(last, 0))
        self._next_segment()

    def _load_cursor(self) -> _Place:
        try:
            return msgspec.json.decode((self._dir / "cursor").read_bytes(), type=_Place)
        except FileNotFoundError:
            return _Place(0, 0)
        except msgspec.DecodeError:
            self._log.warning("the audit spool's cursor is damaged: everything kept is delivered again")
            return _Place(0, 0)

    def _path(self, segment: int) -> Path:
        return self._dir / f"{segment:010d}.seg"

    # Writing: one task, one fsync for all that wait.

    async def _write_loop(self) -> None:
        while True:
            await self._to_write.wait()
            self._to_write.clear()
            batch, self._waiting, self._waiting_bytes = self._waiting, [], 0
            if batch:
                problem: OSError | None = None
                try:
                    data = b"".join(record for each in batch for record in each.records)
                    await asyncio.to_thread(self._append, data)
                except OSError as exc:
                    problem = exc
                    self._log.error("audit events cannot be written to %s: %s", self._dir, exc)
                if problem is None:
                    self._remember(batch)
                    self._note_level()
                    self._written.set()
                for each in batch:
                    if each.done.done():
                        continue
                    if problem is None:
                        each.done.set_result(None)
                    else:
                        each.done.set_exception(
                            UnavailableError(
                                f"audit events cannot be written: {problem.strerror}",
                                hint="make room on the disk of the data directory",
                            )
                        )
            if self._closing and not self._waiting:
                return

    def _remember(self, batch: list[_Waiting]) -> None:
        """What was just appended, all in one segment, need not be read back."""
        end = self._end
        offset = end.offset - sum(len(record) for each in batch for record in each.records)
        start = _Place(end.segment, offset)
        for each in batch:
            for event, record in zip(each.events, each.records, strict=True):
                begin, start = start, _Place(start.segment, start.offset + len(record))
                self._latest.append(_Kept(event, begin, start))
            self._pending += len(each.events)

    def _append(self, data: bytes) -> None:
        """Runs in a thread. After a failure the segment is abandoned: its torn end stays its end."""
        try:
            if self._fd < 0 or self._end.offset >= self._segment_bytes:
                self._next_segment()
            rest = memoryview(data)
            while rest:
                rest = rest[os.write(self._fd, rest) :]
            os.fsync(self._fd)
        except OSError:
            # Nobody was told that these are kept, so they must not be delivered after all.
            with contextlib.suppress(OSError):
                os.ftruncate(self._fd, self._end.offset)
            if self._fd >= 0:
                os.close(self._fd)
                self._fd = -1
            raise
        self._end = _Place(self._end.segment, self._end.offset + len(data))
        self._sizes[self._end.segment] = self._end.offset

    def _next_segment(self) -> None:
        number = self._end.segment + 1
        fd = os.open(
            self._path(number), os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_APPEND | os.O_CLOEXEC, 0o600
        )
        if self._fd >= 0:
            os.close(self._fd)
        self._fd, self._end, self._sizes[number] = fd, _Place(number, 0), 0
        sync_dir(self._dir)

    # Delivering: one task, in order.

    async def _deliver_loop(self) -> None:
        while True:
            self._written.clear()
            events, places = self._latest_batch()
            if not events:
                events, places = await asyncio.to_thread(self._read_batch)
            if not events:
                await self._written.wait()
                continue
            try:
                await self._hand_over(events, places)
                self._backoff.reset()
                if len(events) < limits.SPOOL_BATCH:
                    await asyncio.sleep(limits.SPOOL_PACE_S)
            except Exception as exc:
                self._log.warning("%d audit events wait on disk: %s", self._pending, exc)
                await asyncio.sleep(self._backoff.next())

    async def _hand_over(self, events: list[Event], places: list[_Place]) -> None:
        try:
            await self._deliver(events)
        except InputError as exc:
            if len(events) > 1:
                # One of them is bad: hand them over one by one, so that only that one is set aside.
                for event, place in zip(events, places, strict=True):
                    await self._hand_over([event], [place])
                return
            self._log.error("the Auth Service refused audit event %s: %s", events[0].uid, exc)
            await asyncio.to_thread(self._set_aside, events[0])
        self._cursor = places[-1]
        while self._latest and self._latest[0].end <= places[-1]:
            self._latest.popleft()
        self._pending -= len(events)
        try:
            now = asyncio.get_running_loop().time()
            if not self._pending or now >= self._kept_at + limits.SPOOL_PACE_S:
                self._kept_at = now
                await asyncio.to_thread(self._keep_cursor, self._cursor)
        finally:
            self._note_level()

    def _latest_batch(self) -> tuple[list[Event], list[_Place]]:
        """The next events, if they are in memory."""
        events: list[Event] = []
        places: list[_Place] = []
        if not self._latest or self._latest[0].start != self._cursor:
            return events, places
        for each in self._latest:
            if each.end.segment != self._cursor.segment or len(events) >= limits.SPOOL_BATCH:
                break
            events.append(each.event)
            places.append(each.end)
            if each.end.offset - self._cursor.offset >= limits.SPOOL_BATCH_BYTES:
                break
        return events, places

    def _read_batch(self) -> tuple[list[Event], list[_Place]]:
        events: list[Event] = []
        places: list[_Place] = []
        end = self._end
        segment, offset = self._cursor.segment, self._cursor.offset
        while segment <= end.segment:
            path = self._path(segment)
            bound = end.offset if segment == end.segment else self._sizes.get(segment)
            if path.exists():
                start = offset
                for event, after in _records(path, offset, bound):
                    events.append(event)
                    places.append(_Place(segment, after))
                    if len(events) >= limits.SPOOL_BATCH or after - start >= limits.SPOOL_BATCH_BYTES:
                        return events, places
            # A batch ends with its segment, so that a batch's bytes are those between two offsets.
            if events:
                return events, places
            segment, offset = segment + 1, 0
        return events, places

    def _keep_cursor(self, place: _Place) -> None:
        write_atomic(self._dir / "cursor", msgspec.json.encode(place))
        for number in [number for number in list(self._sizes) if number < place.segment]:
            self._path(number).unlink(missing_ok=True)
            del self._sizes[number]

    def _set_aside(self, event: Event) -> None:
        fd = os.open(
            self._dir / "refused.jsonl", os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600
        )
        try:
            os.write(fd, to_json(event) + b"\n")
        finally:
            os.close(fd)

    def _note_level(self) -> None:
        if self._pending:
            self._emptied.clear()
        else:
            self._emptied.set()


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
