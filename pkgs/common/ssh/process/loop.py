"""The event loop of a connection's process: descriptors, timers, and work from the reading thread.

Runs in the main thread. Registered descriptors are level-triggered; a callback that cannot make progress
must unregister itself, or the loop spins.
"""

from __future__ import annotations

import heapq
import itertools
import os
import select
import threading
import time
from collections.abc import Callable

Callback = Callable[[], None]

READ = select.EPOLLIN
WRITE = select.EPOLLOUT


class Timer:
    """A call in the future that can be cancelled."""

    __slots__ = ("callback",)

    def __init__(self, callback: Callback) -> None:
        self.callback: Callback | None = callback

    def cancel(self) -> None:
        self.callback = None


class Loop:
    def __init__(self) -> None:
        self._epoll = select.epoll()
        self._callbacks: dict[int, Callback] = {}
        self._timers: list[tuple[float, int, Timer]] = []
        self._order = itertools.count()
        self._wake_fd = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self._epoll.register(self._wake_fd, READ)
        self._soon: list[Callback] = []
        self._lock = threading.Lock()
        self._stopped = False

    def watch(self, fd: int, what: int, callback: Callback) -> None:
        """Call when `fd` is ready. One callback per descriptor."""
        if fd in self._callbacks:
            self._epoll.modify(fd, what)
        else:
            self._epoll.register(fd, what)
        self._callbacks[fd] = callback

    def unwatch(self, fd: int) -> None:
        """Stop watching; must come before the descriptor is closed."""
        if self._callbacks.pop(fd, None) is not None:
            self._epoll.unregister(fd)

    def after(self, delay_s: float, callback: Callback) -> Timer:
        timer = Timer(callback)
        heapq.heappush(self._timers, (time.monotonic() + delay_s, next(self._order), timer))
        return timer

    def call_soon(self, callback: Callback) -> None:
        """From any thread: call in the loop's thread."""
        with self._lock:
            self._soon.append(callback)
            first = len(self._soon) == 1
        if first:
            os.eventfd_write(self._wake_fd, 1)

    def stop(self) -> None:
        self._stopped = True

    def run(self) -> None:
        """Until `stop`."""
        while not self._stopped:
            timeout = None
            while self._timers:
                at, _, timer = self._timers[0]
                if timer.callback is not None and (left := at - time.monotonic()) > 0:
                    timeout = left
                    break
                heapq.heappop(self._timers)
                if timer.callback is not None:
                    timer.callback()
            if self._stopped:
                return
            for fd, _ in self._epoll.poll(timeout):
                if fd == self._wake_fd:
                    os.eventfd_read(fd)
                    with self._lock:
                        soon, self._soon = self._soon, []
                    for callback in soon:
                        callback()
                elif (ready := self._callbacks.get(fd)) is not None:
                    ready()
