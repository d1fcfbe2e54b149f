"""Waiting on a condition with a deadline: the only way a test waits."""

from __future__ import annotations

import asyncio
import inspect
import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")


def wait_for(
    condition: Callable[[], T | None], *, what: str, deadline_s: float = 20.0, every_s: float = 0.05
) -> T:
    """Call `condition` until it returns something true; raise TimeoutError naming `what` at the deadline."""
    end = time.monotonic() + deadline_s
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > end:
            raise TimeoutError(f"waited {deadline_s:.0f} s in vain for {what}")
        time.sleep(every_s)


async def until(condition: Callable[[], object], deadline_s: float = 10.0) -> None:
    """The same on an event loop; what `condition` answers may be awaitable. TimeoutError at the deadline."""
    async with asyncio.timeout(deadline_s):
        while True:
            outcome = condition()
            if await outcome if inspect.isawaitable(outcome) else outcome:
                return
            await asyncio.sleep(0.01)
