"""One thread that waits for descriptors, for what the reading thread has to say, and for times."""

from __future__ import annotations

import os
import select
import time
from collections import deque
from collections.abc import Callable
from typing import Protocol


class Part(Protocol):
    """Something with descriptors of its own."""

    def wants(self) -> dict[int, int]:
        """What to wait for: descriptors with events of `poll`."""

    def ready(self, fd: int, events: int) -> None:
        """One of them has something."""


class Loop:
    """Everything but `post` is for the thread that runs it."""

    def __init__(self) -> None:
        self._posted: deque[Callable[[], None]] = deque()
        self._parts: list[Part] = []
        self._timers: list[tuple[float, Callable[[], None]]] = []
        self._reader, self._writer = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        self._stopped = False

    def post(self, call: Callable[[], None]) -> None:
        """Have it called by the loop, in the order of posting. Any thread, and signal handlers."""
        self._posted.append(call)
        try:
            os.write(self._writer, b"\0")
        except BlockingIOError:
            return  # it is awake anyway

    def after(self, seconds: float, call: Callable[[], None]) -> None:
        self._timers.append((time.monotonic() + seconds, call))

    def add(self, part: Part) -> None:
        self._parts.append(part)

    def remove(self, part: Part) -> None:
        if part in self._parts:
            self._parts.remove(part)

    def stop(self) -> None:
        self._stopped = True

    def run(self, until: Callable[[], bool] = lambda: False) -> None:
        """Until `stop`, or until the condition holds."""
        while not self._stopped and not until():
            self._once()

    def close(self) -> None:
        """When no other thread posts any more."""
        os.close(self._reader)
        os.close(self._writer)

    def _once(self) -> None:
        poller = select.poll()
        poller.register(self._reader, select.POLLIN)
        owners: dict[int, Part] = {}
        for part in self._parts:
            for fd, events in part.wants().items():
                owners[fd] = part
                poller.register(fd, events)
        for fd, events in poller.poll(self._patience_ms()):
            if fd == self._reader:
                self._drain()
            elif owners[fd] in self._parts:
                owners[fd].ready(fd, events)
        while self._posted and not self._stopped:
            self._posted.popleft()()
        now = time.monotonic()
        due = [call for at, call in self._timers if at <= now]
        self._timers = [timer for timer in self._timers if timer[0] > now]
        for call in due:
            call()

    def _patience_ms(self) -> int | None:
        if not self._timers:
            return None
        left = min(at for at, _ in self._timers) - time.monotonic()
        return max(0, int(1000 * left) + 1)

    def _drain(self) -> None:
        try:
            os.read(self._reader, 65536)
        except BlockingIOError:
            return
