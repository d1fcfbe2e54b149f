"""The disk spool between a service and the Auth Service: durable first, delivered later, in order, once.

`emit` returns when the event is on disk; `post` when it is in the file, and its future is done when it is on
disk: all that wait share one fsync. A background task hands events that are on disk to `deliver` in the order
of emission and moves a cursor when they were taken. A crash at any moment loses no event that `emit` returned
for; it may deliver the last batches twice, and the receiver ignores a known uid. A crash of the process alone
loses no event that `post` returned for.

A spool is a directory of segments. A segment is a sequence of records: 4-byte length, 4-byte CRC-32 of
the payload (both big-endian), payload (the event as MessagePack). A process never appends to a segment
of an earlier process, so a torn record can only be a segment's last, and reading goes on with the next.

When full, or when the disk is, `emit` refuses: what cannot be audited is not done.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
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


class _Batch(NamedTuple):
    """Records that are in the file, and the future of all who wait until they are on disk."""

    records: list[bytes]
    done: asyncio.Future[None]


class _Kept(NamedTuple):
    """A record on disk, and where it is."""

    record: bytes
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
        """Up to here everything is on disk."""
        self._segment = 0
        self._tail = 0
        """The segment that is written, and up to where."""
        self._torn = False
        """The segment cannot be gone on with."""
        self._cursor = _Place(0, 0)
        self._kept_at = 0.0
        """Loop time at which the cursor was last written."""
        self._sizes: dict[int, int] = {}
        self._pending = 0
        self._waiting: _Batch | None = None
        self._latest: deque[_Kept] = deque(maxlen=limits.SPOOL_IN_MEMORY)
        """Of what is on disk, in its order up to the end; what was delivered goes."""
        self._written = asyncio.Event()
        self._emptied = asyncio.Event()
        self._to_sync = asyncio.Event()
        self._syncing: asyncio.TimerHandle | None = None
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
            asyncio.create_task(self._sync_loop(), name="event-spool-sync"),
            asyncio.create_task(self._deliver_loop(), name="event-spool-deliver"),
        ]

    async def emit(self, *events: Event) -> None:
        """Return once the events are on disk; raises UnavailableError when they cannot be kept."""
        done = self.post(*map(encoded, events))
        self._sync_now()
        # A cancelled caller must not cancel what others share.
        await asyncio.shield(done)

    def post(self, *payloads: bytes) -> asyncio.Future[None]:
        """Events as MessagePack, bounded. They are in the file when this returns, and on disk when the
        future, which many share, is done. Raises UnavailableError when they cannot be written, and the
        future does when the disk fails."""
        if self._closing or not self._tasks:
            raise UnavailableError("this service is stopping and takes no more audit events")
        records = [_HEAD.pack(len(payload), zlib.crc32(payload)) + payload for payload in payloads]
        data = b"".join(records)
        if sum(self._sizes.values()) + len(data) > self._max_bytes:
            raise UnavailableError(
                "the audit spool is full, so nothing that must be audited is done",
                hint=f"reach the Auth Service again, or make room; the limit is {self._max_bytes} bytes",
            )
        try:
            self._write(data)
        except OSError as exc:
            self._log.error("audit events cannot be written to %s: %s", self._dir, exc)
            raise _unwritable(exc) from None
        if self._waiting is None:
            loop = asyncio.get_running_loop()
            self._waiting = _Batch([], loop.create_future())
            self._syncing = loop.call_later(limits.SPOOL_SYNC_S, self._sync_now)
        self._waiting.records.extend(records)
        return self._waiting.done

    def _sync_now(self) -> None:
        if self._syncing is not None:
            self._syncing.cancel()
            self._syncing = None
        self._to_sync.set()

    async def flush(self, deadline_s: float) -> bool:
        """Wait until everything is delivered; False when that took longer than the deadline."""
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._emptied.wait(), deadline_s)
        return self._pending == 0 and not self._waiting

    async def close(self) -> None:
        """Write what was emitted, stop delivering, keep the rest on disk for the next start."""
        self._closing = True
        self._sync_now()
        if self._tasks:
            await self._tasks[0]
            self._tasks[1].cancel()
            await asyncio.wait((self._tasks[1],))
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
        self._segment = last + 1
        self._fd = self._open_segment(self._segment)
        self._end, self._sizes[self._segment] = _Place(self._segment, 0), 0

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

    # Writing: at once, for what is written outlives this process; and one fsync for all that wait.

    def _write(self, data: bytes) -> None:
        """Whole, or not at all."""
        if self._torn:
            self._sync_now()
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        rest = memoryview(data)
        try:
            while rest:
                rest = rest[os.write(self._fd, rest) :]
        except OSError:
            self._take_back(self._fd, self._tail)
            raise
        self._tail += len(data)
        self._sizes[self._segment] = self._tail

    def _take_back(self, fd: int, upto: int) -> None:
        """What follows must not be delivered: somebody was told that it is not kept."""
        try:
            os.ftruncate(fd, upto)
        except OSError:
            self._torn = True

    async def _sync_loop(self) -> None:
        while True:
            await self._to_sync.wait()
            self._to_sync.clear()
            batch, self._waiting = self._waiting, None
            await self._settle(batch, self._fd, self._tail)
            if self._torn or self._tail >= self._segment_bytes:
                await self._turn_over()
            if self._closing and not self._waiting:
                return

    async def _settle(self, batch: _Batch | None, fd: int, tail: int) -> None:
        """Put on disk what is written of a segment, and tell those who wait."""
        if batch is None:
            return
        try:
            await asyncio.to_thread(os.fsync, fd)
        except OSError as exc:
            self._log.error("audit events cannot be written to %s: %s", self._dir, exc)
            self._take_back(fd, self._end.offset)
            self._sizes[self._end.segment] = self._end.offset
            _fail(batch, exc)
            if fd == self._fd:
                # What came meanwhile went with it.
                self._torn = True
                late, self._waiting = self._waiting, None
                _fail(late, exc)
        else:
            self._remember(batch.records, tail)
            if not batch.done.done():
                batch.done.set_result(None)

    async def _turn_over(self) -> None:
        """To the next segment. What was written to this one meanwhile is put on disk too."""
        try:
            fd = await asyncio.to_thread(self._open_segment, self._segment + 1)
        except OSError as exc:
            self._log.error("no new file for audit events in %s: %s", self._dir, exc)
            return
        old, tail = self._fd, self._tail
        batch, self._waiting = self._waiting, None
        self._fd, self._segment, self._tail, self._torn = fd, self._segment + 1, 0, False
        self._sizes[self._segment] = 0
        await self._settle(batch, old, tail)
        os.close(old)
        self._end = _Place(self._end.segment + 1, 0)

    def _remember(self, records: list[bytes], tail: int) -> None:
        """What is on disk now, all in one segment, need not be read back."""
        start = self._end
        for record in records:
            begin, start = start, _Place(start.segment, start.offset + len(record))
            self._latest.append(_Kept(record, begin, start))
        self._pending += len(records)
        self._end = _Place(self._end.segment, tail)
        self._note_level()
        self._written.set()

    def _open_segment(self, number: int) -> int:
        fd = os.open(
            self._path(number), os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_APPEND | os.O_CLOEXEC, 0o600
        )
        sync_dir(self._dir)
        return fd

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
            events.append(_DECODER.decode(each.record[_HEAD.size :]))
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


def _fail(batch: _Batch | None, problem: OSError) -> None:
    if batch is not None and not batch.done.done():
        batch.done.set_exception(_unwritable(problem))
        batch.done.exception()  # Mark as seen: whoever waited may have gone.


def _unwritable(problem: OSError) -> UnavailableError:
    return UnavailableError(
        f"audit events cannot be written: {problem.strerror}",
        hint="make room on the disk of the data directory",
    )


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
