"""Telling the cluster that this host lives and what it offers: soon when that changed, else now and then."""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Awaitable, Callable
from typing import Generic, TypeVar

from pkgs.common.errors import AccessError
from pkgs.common.membership import limits
from pkgs.common.runtime.backoff import Backoff
from pkgs.common.runtime.clock import Clock
from pkgs.common.runtime.debug.readiness import Component

T = TypeVar("T")


class Heart(Generic[T]):
    """Beats until it is closed. Readiness follows whether the cluster hears it."""

    def __init__(
        self,
        make: Callable[[], T],
        send: Callable[[T], Awaitable[None]],
        *,
        clock: Clock,
        log: logging.Logger,
        component: Component | None = None,
    ) -> None:
        self._make = make
        self._send = send
        self._clock = clock
        self._log = log
        self._component = component
        self._tick_s = limits.HEARTBEAT_TICK_S
        self._told: T | None = None
        self._next_at = 0.0
        self._backoff = Backoff(self._tick_s, limits.HEARTBEAT_RETRY_LIMIT_S)
        self._hurry = asyncio.Event()
        self._task = asyncio.create_task(self._beat_loop(), name="heartbeat")

    def hurry(self) -> None:
        """Beat now, for instance when the connection is back or a label changed."""
        self._next_at = 0.0
        self._hurry.set()

    async def beat(self) -> None:
        """One beat now; raises what the call raises."""
        told = self._make()
        await self._send(told)
        self._told = told
        # Jitter: a thousand agents that came up together do not beat together for ever (fault F06).
        self._next_at = self._clock.monotonic() + limits.HEARTBEAT_EVERY_S * random.uniform(0.75, 1.25)  # noqa: S311
        self._backoff.reset()
        if self._component is not None:
            self._component.ok()

    async def close(self) -> None:
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)

    async def _beat_loop(self) -> None:
        while True:
            pause = self._tick_s
            try:
                if self._clock.monotonic() >= self._next_at or self._make() != self._told:
                    await self.beat()
            except AccessError as error:
                pause = self._backoff.next()
                self._log.warning(
                    "the cluster does not hear this host: %s", error, extra={"detail": error.detail}
                )
                if self._component is not None:
                    self._component.degraded(f"heartbeat failed: {error}")
            except Exception:
                # A fault in what this host says of itself must not make it vanish for good.
                pause = self._backoff.next()
                self._log.exception("the heartbeat failed")
            self._hurry.clear()
            try:
                await asyncio.wait_for(self._hurry.wait(), pause)
            except TimeoutError:
                continue
