"""What a backend is: items under keys, revisions, commits of several operations, expiry and watching."""

from __future__ import annotations

import zlib
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence

import msgspec

from pkgs.auth.backend.fanout import Change, Fanout, Item, Watcher
from pkgs.auth.backend.limits import MAX_KEY_BYTES, MAX_OPERATIONS, MAX_VALUE_BYTES, RANGE_PAGE, WATCH_QUEUE
from pkgs.common.errors import (
    AlreadyExistsError,
    ConflictError,
    InputError,
    LimitExceededError,
    NotFoundError,
)


class Create(msgspec.Struct, frozen=True):
    """Write a key that must not exist yet."""

    key: str
    value: bytes
    expires: float | None = None


class Put(msgspec.Struct, frozen=True):
    """Write a key whether it exists or not."""

    key: str
    value: bytes
    expires: float | None = None


class Update(msgspec.Struct, frozen=True):
    """Write a key only if it is still at this revision."""

    key: str
    value: bytes
    revision: int
    expires: float | None = None


class Delete(msgspec.Struct, frozen=True):
    """Remove a key that must exist; with a revision, only if it is still at that one."""

    key: str
    revision: int | None = None


Operation = Create | Put | Update | Delete


def checksum(key: str, value: bytes) -> int:
    """Guards an item against a silently damaged page: stored beside it, checked when it is read."""
    return zlib.crc32(value, zlib.crc32(key.encode()))


def check_commit(operations: Sequence[Operation]) -> None:
    """Refuse what no backend has to take: too many operations, a bad key, a value over the limit."""
    if not operations:
        raise InputError("a commit needs at least one operation")
    if len(operations) > MAX_OPERATIONS:
        raise LimitExceededError(f"a commit may hold {MAX_OPERATIONS} operations")
    for op in operations:
        if not op.key or "\0" in op.key or len(op.key.encode()) > MAX_KEY_BYTES:
            raise InputError(f"a key is 1 to {MAX_KEY_BYTES} bytes without NUL")
        if not isinstance(op, Delete) and len(op.value) > MAX_VALUE_BYTES:
            raise LimitExceededError(
                f"an object may be {MAX_VALUE_BYTES:,} bytes, this one is {len(op.value):,}"
            )


def check_condition(op: Operation, current: int | None) -> None:
    """Whether `op` may be applied over the revision a key has now (None: no such key)."""
    if isinstance(op, Create):
        if current is not None:
            raise AlreadyExistsError(f'"{op.key}" already exists')
    elif isinstance(op, Update | Delete):
        if current is None:
            raise NotFoundError(f'"{op.key}" not found')
        if op.revision is not None and op.revision != current:
            raise ConflictError(f'"{op.key}" was changed by somebody else in the meantime')


class Backend(ABC):
    """Reads and writes are safe from many tasks of one event loop.

    Revisions are positive, grow with every commit and are never used twice, not even after a restart.
    An item past its expiry is as good as deleted, whether it has been swept yet or not.
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        self.clock = clock
        self._fanout = Fanout()

    @abstractmethod
    async def commit(self, operations: Sequence[Operation]) -> int:
        """Apply all of them durably, or none; answers the revision that all written items now have.

        Raises AlreadyExistsError, NotFoundError or ConflictError for the first one whose condition does
        not hold, UnavailableError when the disk is full or fails."""

    @abstractmethod
    async def get(self, key: str) -> Item | None: ...

    @abstractmethod
    async def range(self, prefix: str, *, after: str = "", limit: int = RANGE_PAGE) -> list[Item]:
        """Items whose key begins with `prefix` and is greater than `after`, in key order."""

    @abstractmethod
    async def sweep(self) -> int:
        """Delete what has expired, telling the watchers; answers how many."""

    @abstractmethod
    async def close(self) -> None: ...

    async def create(self, key: str, value: bytes, *, expires: float | None = None) -> int:
        return await self.commit([Create(key, value, expires)])

    async def put(self, key: str, value: bytes, *, expires: float | None = None) -> int:
        return await self.commit([Put(key, value, expires)])

    async def update(self, key: str, value: bytes, revision: int, *, expires: float | None = None) -> int:
        return await self.commit([Update(key, value, revision, expires)])

    async def delete(self, key: str, revision: int | None = None) -> None:
        await self.commit([Delete(key, revision)])

    async def all(self, prefix: str) -> list[Item]:
        """Every item under a prefix, read page by page."""
        items: list[Item] = []
        while True:
            page = await self.range(prefix, after=items[-1].key if items else "", limit=RANGE_PAGE)
            items += page
            if len(page) < RANGE_PAGE:
                return items

    def subscribe(self, prefix: str, callback: Callable[[Change], None]) -> Callable[[], None]:
        """Call back on the event loop for every change under `prefix`, in commit order and before the
        commit that made it is acknowledged; so what a subscriber keeps is never older than an
        acknowledged write. Answers the function that ends it. The callback must not block or raise."""
        return self._fanout.subscribe(prefix, callback)

    def watch(self, *prefixes: str, capacity: int = WATCH_QUEUE) -> Watcher:
        """The same for several prefixes (none within another) as a bounded queue; a reader that falls
        `capacity` behind is told to resync."""
        return Watcher(self._fanout, prefixes, capacity)
