"""Calls are carried out as a whole: a change is not left without its audit event, nor a lock without effect,
because the caller hangs up, or their deadline passes, between the two.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Coroutine
from typing import Any, TypeVar

from pkgs.common.errors import AccessError

A = TypeVar("A")
_log = logging.getLogger(__name__)


class Whole:
    """Runs what must not be cut short. Whoever waits for it may stop waiting; it goes on."""

    def __init__(self) -> None:
        self._going: set[asyncio.Task[Any]] = set()

    async def run(self, work: Coroutine[Any, Any, A]) -> A:
        task = asyncio.create_task(work)
        self._going.add(task)
        task.add_done_callback(self._done)
        try:
            return await asyncio.shield(task)
        except asyncio.CancelledError:
            if not task.done():
                task.add_done_callback(_tell)
            raise

    def _done(self, task: asyncio.Task[Any]) -> None:
        self._going.discard(task)

    async def finish(self, timeout_s: float) -> None:
        """Wait for what still goes on; what takes longer is cancelled. The storage must be open still."""
        if not self._going:
            return
        _, late = await asyncio.wait(list(self._going), timeout=timeout_s)
        for task in late:
            _log.warning("a call was cut short at the end of the service")
            task.cancel()
        if late:
            await asyncio.wait(late)


def _tell(task: asyncio.Task[Any]) -> None:
    """The failure of a call that nobody waits for any more."""
    if task.cancelled():
        return
    error = task.exception()
    if isinstance(error, AccessError):
        _log.info("a call that nobody waits for failed: %s", error.message)
    elif error is not None:
        _log.error("a call that nobody waits for failed", exc_info=error)
