"""Failed logins: counting them, and locking after too many.

Counts are kept for every name somebody tried, existing or not, so that neither the answer nor the work
tells the difference. A lock is a matter of the name, the gate's throttle one of the address: guessing one
user from many addresses meets the first, many users from one address the second (attack A50).
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import msgspec

from pkgs.auth import limits
from pkgs.auth.backend.interface import Backend
from pkgs.common.errors import LimitExceededError, NotFoundError

_PREFIX = "/attempts/"


class Attempts(msgspec.Struct, frozen=True):
    failures: tuple[float, ...] = ()
    """When they happened, Unix seconds."""
    locked_until: float = 0.0

    def locked(self, now: float) -> bool:
        return now < self.locked_until


def after_failure(before: Attempts, now: float) -> Attempts:
    """Count one more; a failure during a lock neither counts nor prolongs it."""
    if before.locked(now):
        return before
    recent = (*(t for t in before.failures if t > now - limits.FAILURE_WINDOW_S), now)
    if len(recent) >= limits.FAILURES_TO_LOCK:
        return Attempts((), now + limits.LOCK_S)
    return Attempts(recent)


def key_of(user: str) -> str:
    return _PREFIX + hashlib.sha256(user.encode("utf-8", "replace")).hexdigest()


class _Turn:
    __slots__ = ("lock", "waiting")

    def __init__(self) -> None:
        self.lock = asyncio.Lock()
        self.waiting = 0


class AttemptLog:
    """The counts, stored so that a restart does not free anybody."""

    def __init__(self, backend: Backend) -> None:
        self._backend = backend
        self._turns: dict[str, _Turn] = {}

    @asynccontextmanager
    async def turn(self, user: str) -> AsyncIterator[None]:
        """One login per name at a time: many at once must not all be checked before the first failure is
        counted. LimitExceededError when too many wait."""
        turn = self._turns.setdefault(user, _Turn())
        if turn.waiting >= limits.LOGINS_WAITING_PER_NAME:
            raise LimitExceededError("too many logins at the same moment", hint="try again in a few seconds")
        turn.waiting += 1
        try:
            async with turn.lock:
                yield
        finally:
            turn.waiting -= 1
            if not turn.waiting:
                self._turns.pop(user, None)

    async def read(self, user: str) -> Attempts:
        item = await self._backend.get(key_of(user))
        return msgspec.json.decode(item.value, type=Attempts) if item else Attempts()

    async def failed(self, user: str) -> Attempts:
        """Record a failure; answers the count with it."""
        now = self._backend.clock()
        after = after_failure(await self.read(user), now)
        expires = max(after.locked_until, now + limits.FAILURE_WINDOW_S)
        await self._backend.put(key_of(user), msgspec.json.encode(after), expires=expires)
        return after

    async def clear(self, user: str) -> None:
        with contextlib.suppress(NotFoundError):
            await self._backend.delete(key_of(user))
