"""Handing over what is on disk, in its order, once: one task, which moves the cursor when events were taken.

The latest events are in memory too, so that they need not be read back.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections import deque
from collections.abc import Awaitable, Callable
from typing import NamedTuple

from pkgs.common.errors import InputError
from pkgs.common.events import limits
from pkgs.common.events.spool.files import Place, SpoolFiles, event_in
from pkgs.common.events.types import Event
from pkgs.common.runtime.backoff import Backoff

Deliver = Callable[[list[Event]], Awaitable[None]]
"""Takes events for good, or raises. Events refused with InputError are set aside, others retried for ever."""


class _Kept(NamedTuple):
    """A record on disk, and where it is."""

    record: bytes
    start: Place
    end: Place


class Delivery:
    def __init__(self, files: SpoolFiles, deliver: Deliver, backoff: Backoff, log: logging.Logger) -> None:
        self._files = files
        self._deliver = deliver
        self._backoff = backoff
        self._log = log
        self._cursor = Place(0, 0)
        """Everything before it is delivered."""
        self._cursor_kept_at = 0.0
        """Loop time at which it was last written."""
        self.end = Place(0, 0)
        """Up to here everything is on disk."""
        self.pending = 0
        """Events between the two."""
        self._latest: deque[_Kept] = deque(maxlen=limits.SPOOL_IN_MEMORY)
        """Of what is on disk, in its order up to the end; what was delivered goes."""
        self._came = asyncio.Event()
        self._emptied = asyncio.Event()

    def begin(self, cursor: Place, pending: int, end: Place) -> None:
        """With what an earlier process left."""
        self._cursor, self.pending, self.end = cursor, pending, end
        self._note_level()

    def add(self, records: list[bytes], tail: int) -> None:
        """On disk now, all in the segment of the end, which moves to this offset of it."""
        start = self.end
        for record in records:
            begin, start = start, Place(start.segment, start.offset + len(record))
            self._latest.append(_Kept(record, begin, start))
        self.pending += len(records)
        self.end = Place(self.end.segment, tail)
        self._note_level()
        self._came.set()

    def turn_over(self) -> None:
        """What comes next is in the next segment."""
        self.end = Place(self.end.segment + 1, 0)

    async def emptied(self) -> None:
        """Returns when nothing on disk waits."""
        await self._emptied.wait()

    def keep_cursor(self) -> None:
        """What was delivered since it was last written is delivered again, and ignored, where this fails."""
        with contextlib.suppress(OSError):
            self._files.keep_cursor(self._cursor)

    async def run(self) -> None:
        """For ever."""
        while True:
            self._came.clear()
            events, places = self._latest_batch()
            if not events:
                events, places = await asyncio.to_thread(self._files.read_batch, self._cursor, self.end)
            if not events:
                await self._came.wait()
                continue
            try:
                await self._hand_over(events, places)
                self._backoff.reset()
                if len(events) < limits.SPOOL_BATCH:
                    await asyncio.sleep(limits.SPOOL_PACE_S)
            except Exception as exc:
                self._log.warning("%d audit events wait on disk: %s", self.pending, exc)
                await asyncio.sleep(self._backoff.next())

    async def _hand_over(self, events: list[Event], places: list[Place]) -> None:
        try:
            await self._deliver(events)
        except InputError as exc:
            if len(events) > 1:
                # One of them is bad: hand them over one by one, so that only that one is set aside.
                for event, place in zip(events, places, strict=True):
                    await self._hand_over([event], [place])
                return
            self._log.error("the Auth Service refused audit event %s: %s", events[0].uid, exc)
            await asyncio.to_thread(self._files.set_aside, events[0])
        self._cursor = places[-1]
        while self._latest and self._latest[0].end <= places[-1]:
            self._latest.popleft()
        self.pending -= len(events)
        try:
            now = asyncio.get_running_loop().time()
            if not self.pending or now >= self._cursor_kept_at + limits.SPOOL_PACE_S:
                self._cursor_kept_at = now
                await asyncio.to_thread(self._files.keep_cursor, self._cursor)
        finally:
            self._note_level()

    def _latest_batch(self) -> tuple[list[Event], list[Place]]:
        """The next events, if they are in memory."""
        events: list[Event] = []
        places: list[Place] = []
        if not self._latest or self._latest[0].start != self._cursor:
            return events, places
        for each in self._latest:
            if each.end.segment != self._cursor.segment or len(events) >= limits.SPOOL_BATCH:
                break
            events.append(event_in(each.record))
            places.append(each.end)
            if each.end.offset - self._cursor.offset >= limits.SPOOL_BATCH_BYTES:
                break
        return events, places

    def _note_level(self) -> None:
        if self.pending:
            self._emptied.clear()
        else:
            self._emptied.set()
