"""Who hears of changes: callbacks in commit order, and bounded queues on top of them."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Callable, Sequence

import msgspec


class Item(msgspec.Struct, frozen=True):
    key: str
    value: bytes
    revision: int
    expires: float | None = None
    """Unix seconds; None: never."""


class Change(msgspec.Struct, frozen=True):
    """A key was written, or (without an item) is gone."""

    key: str
    revision: int
    item: Item | None = None


class Resync(Exception):
    """The watcher fell behind; read everything anew and watch again."""


class Fanout:
    """Delivers changes to those who asked, in the order they were committed.

    Grouped by prefix: thousands who follow roles cost nothing when a node changes."""

    def __init__(self) -> None:
        self._by_prefix: dict[str, dict[object, Callable[[Change], None]]] = {}

    def subscribe(self, prefix: str, callback: Callable[[Change], None]) -> Callable[[], None]:
        token = object()
        self._by_prefix.setdefault(prefix, {})[token] = callback

        def unsubscribe() -> None:
            group = self._by_prefix.get(prefix, {})
            group.pop(token, None)
            if not group:
                self._by_prefix.pop(prefix, None)

        return unsubscribe

    def publish(self, changes: list[Change]) -> None:
        for change in changes:
            for prefix in tuple(self._by_prefix):
                if change.key.startswith(prefix):
                    for callback in tuple(self._by_prefix.get(prefix, {}).values()):
                        callback(change)


class Watcher:
    """A bounded queue of changes under some prefixes: `async for change in watcher`.

    Raises Resync once the queue has overflowed and what it still held was read."""

    def __init__(self, fanout: Fanout, prefixes: Sequence[str], capacity: int) -> None:
        self._queue: deque[Change] = deque()
        self._capacity = capacity
        self._overflowed = False
        self._closed = False
        self._wake = asyncio.Event()
        self._unsubscribe = [fanout.subscribe(prefix, self._add) for prefix in prefixes]

    def _stop(self) -> None:
        while self._unsubscribe:
            self._unsubscribe.pop()()

    def _add(self, change: Change) -> None:
        if len(self._queue) >= self._capacity:
            # Once a change was lost the rest is of no use: the reader starts anew.
            self._overflowed = True
            self._stop()
        else:
            self._queue.append(change)
        self._wake.set()

    async def __aiter__(self) -> AsyncIterator[Change]:
        while True:
            while self._queue:
                yield self._queue.popleft()
            if self._overflowed:
                raise Resync
            if self._closed:
                return
            self._wake.clear()
            await self._wake.wait()

    def close(self) -> None:
        self._closed = True
        self._stop()
        self._wake.set()
