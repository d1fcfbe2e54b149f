"""Taking events: into the file at once, on disk soon, all that wait sharing one fsync."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import logging
import os
from pathlib import Path
from typing import NamedTuple

from pkgs.common.errors import UnavailableError
from pkgs.common.events import limits
from pkgs.common.events.format import encoded
from pkgs.common.events.spool.delivery import Deliver, Delivery
from pkgs.common.events.spool.files import Place, SpoolFiles, record_of
from pkgs.common.events.types import Event
from pkgs.common.runtime.backoff import Backoff


class _Batch(NamedTuple):
    """Records that are in the file, and the future of all who wait until they are on disk."""

    records: list[bytes]
    done: asyncio.Future[None]


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
        self._log = log or logging.getLogger("events.spool")
        self._files = SpoolFiles(directory, self._log)
        self._delivery = Delivery(self._files, deliver, Backoff(retry_first_s, retry_limit_s), self._log)
        self._max_bytes = max_bytes
        self._segment_bytes = segment_bytes
        self._fd = -1
        self._segment = 0
        self._tail = 0
        """The segment that is written, and up to where."""
        self._torn = False
        """The segment cannot be gone on with."""
        self._waiting: _Batch | None = None
        self._to_sync = asyncio.Event()
        self._syncing: asyncio.TimerHandle | None = None
        self._closing = False
        self._tasks: list[asyncio.Task[None]] = []

    @property
    def pending(self) -> int:
        """Events on disk that were not yet delivered."""
        return self._delivery.pending

    async def start(self) -> None:
        """Open the spool, count what an earlier process left, and begin to deliver it."""
        cursor, left = await asyncio.to_thread(self._open)
        self._delivery.begin(cursor, left, Place(self._segment, 0))
        if left:
            self._log.info("%d audit events of an earlier run wait for delivery", left)
        self._tasks = [
            asyncio.create_task(self._sync_loop(), name="event-spool-sync"),
            asyncio.create_task(self._delivery.run(), name="event-spool-deliver"),
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
        records = [record_of(payload) for payload in payloads]
        data = b"".join(records)
        if sum(self._files.sizes.values()) + len(data) > self._max_bytes:
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
            await asyncio.wait_for(self._delivery.emptied(), deadline_s)
        return self.pending == 0 and not self._waiting

    async def close(self) -> None:
        """Write what was emitted, stop delivering, keep the rest on disk for the next start."""
        self._closing = True
        self._sync_now()
        if self._tasks:
            await self._tasks[0]
            self._tasks[1].cancel()
            await asyncio.wait((self._tasks[1],))
            self._tasks = []
            self._delivery.keep_cursor()
        if self._fd >= 0:
            os.close(self._fd)
        self._fd = -1
        self._files.close()

    def _open(self) -> tuple[Place, int]:
        cursor, left = self._files.open()
        self._segment = max([cursor.segment, *self._files.sizes]) + 1
        self._fd = self._files.new_segment(self._segment)
        self._files.sizes[self._segment] = 0
        return cursor, left

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
        self._files.sizes[self._segment] = self._tail

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
            end = self._delivery.end
            self._take_back(fd, end.offset)
            self._files.sizes[end.segment] = end.offset
            _fail(batch, exc)
            if fd == self._fd:
                # What came meanwhile went with it.
                self._torn = True
                late, self._waiting = self._waiting, None
                _fail(late, exc)
        else:
            self._delivery.add(batch.records, tail)
            if not batch.done.done():
                batch.done.set_result(None)

    async def _turn_over(self) -> None:
        """To the next segment. What was written to this one meanwhile is put on disk too."""
        try:
            fd = await asyncio.to_thread(self._files.new_segment, self._segment + 1)
        except OSError as exc:
            self._log.error("no new file for audit events in %s: %s", self._dir, exc)
            return
        old, tail = self._fd, self._tail
        batch, self._waiting = self._waiting, None
        self._fd, self._segment, self._tail, self._torn = fd, self._segment + 1, 0, False
        self._files.sizes[self._segment] = 0
        await self._settle(batch, old, tail)
        os.close(old)
        self._delivery.turn_over()


def _fail(batch: _Batch | None, problem: OSError) -> None:
    if batch is not None and not batch.done.done():
        batch.done.set_exception(_unwritable(problem))
        batch.done.exception()  # Mark as seen: whoever waited may have gone.


def _unwritable(problem: OSError) -> UnavailableError:
    return UnavailableError(
        f"audit events cannot be written: {problem.strerror}",
        hint="make room on the disk of the data directory",
    )
