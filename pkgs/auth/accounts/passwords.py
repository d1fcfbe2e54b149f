"""Password hashes: argon2id in a small pool of threads, with the same work for users that do not exist."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError

from pkgs.auth import limits
from pkgs.common.errors import InputError, LimitExceededError

T = TypeVar("T")


def check_new(password: str) -> None:
    """The length rule for a password somebody wants to set."""
    if len(password) < limits.PASSWORD_MIN:
        raise InputError(f"the password is too short, it needs at least {limits.PASSWORD_MIN} characters")
    if len(password) > limits.PASSWORD_MAX:
        raise InputError(f"the password is too long, at most {limits.PASSWORD_MAX} characters are allowed")


class PasswordPool:
    """Hashing takes tens of milliseconds and megabytes, so only a few go on at once and few may wait."""

    def __init__(self, hasher: PasswordHasher | None = None, workers: int = limits.HASH_WORKERS) -> None:
        self._hasher = hasher or PasswordHasher(
            time_cost=limits.ARGON2_TIME,
            memory_cost=limits.ARGON2_MEMORY_KIB,
            parallelism=limits.ARGON2_LANES,
        )
        self._threads = ThreadPoolExecutor(workers, thread_name_prefix="password")
        self._waiting = 0
        # Nobody's password: what a login of an unknown user is checked against.
        self._dummy = self._hasher.hash(secrets.token_hex(16))

    async def hash(self, password: str) -> str:
        return await self._run(self._hasher.hash, password)

    async def verify(self, stored: str | None, password: str) -> bool:
        """Whether the password fits; without a stored hash the same work is done and the answer is no."""
        if len(password) > limits.PASSWORD_INPUT_MAX:
            password = password[: limits.PASSWORD_INPUT_MAX]
            stored = None
        fits = await self._run(self._check, stored or self._dummy, password)
        return fits and stored is not None

    def _check(self, stored: str, password: str) -> bool:
        try:
            return self._hasher.verify(stored, password)
        except (VerificationError, InvalidHashError):
            return False

    async def _run(self, work: Callable[..., T], *args: str) -> T:
        if self._waiting >= limits.HASH_WAITING:
            raise LimitExceededError("too many logins at the same moment", hint="try again in a few seconds")
        self._waiting += 1
        try:
            return await asyncio.get_running_loop().run_in_executor(self._threads, work, *args)
        finally:
            self._waiting -= 1

    def close(self) -> None:
        self._threads.shutdown(cancel_futures=True)
