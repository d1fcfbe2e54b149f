"""Waiting on a condition with a deadline: the only way a test waits."""

from __future__ import annotations

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
