"""Running a test's coroutine on each event loop we support, with a deadline of its own."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

import pytest
import uvloop

LOOPS: dict[str, Callable[[], asyncio.AbstractEventLoop]] = {
    "uvloop": uvloop.new_event_loop,
    "asyncio": asyncio.new_event_loop,
}
on_each_loop = pytest.mark.parametrize("loop", LOOPS)


def run(coroutine: Coroutine[Any, Any, None], loop: str = "uvloop", deadline_s: float = 20.0) -> None:
    async def bounded() -> None:
        async with asyncio.timeout(deadline_s):
            await coroutine

    with asyncio.Runner(loop_factory=LOOPS[loop]) as runner:
        runner.run(bounded())
