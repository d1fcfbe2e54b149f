"""Asking again about what was allowed and goes on: soon after a change, and every second.

What a service let begin must end when the answer has become no: a lock, a role that changed, a window of
time that is over, an authority that is trusted no more, a view of the locks that is too old. A burst of
changes costs one pass; a pass gives way to everything else between a few connections, and the loop rests in
proportion to what the last pass took, so that reviewing never takes more than a part of a processor.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import Protocol

from pkgs.common.membership import limits

DECISIVE = frozenset({"role", "lock", "cluster_auth_preference", "cert_authority", "node", "db"})
"""Kinds of which a change may change an answer. Of `node` a service tells only of its own labels."""
UNSURE = "access can no longer be checked"


class Live(Protocol):
    """Something that goes on."""

    def review(self, *, authorities: bool) -> None:
        """Ask again, and end if the answer is no. With `authorities` also whether the certificate's issuer
        is still trusted. Does not block."""

    def end(self, text: str) -> None:
        """End; the text is for the user."""


class Reviews:
    """Everything of one service that goes on. `start` once, from a running loop."""

    def __init__(
        self,
        log: logging.Logger,
        monotonic: Callable[[], float],
        every_s: float = limits.REVIEW_EVERY_S,
    ) -> None:
        self.passes = 0
        """Passes made so far."""
        self._log = log
        self._monotonic = monotonic
        self._every_s = every_s
        self._live: set[Live] = set()
        self._due = asyncio.Event()
        self._authorities = False
        self._took_s = 0.0
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        self._task = asyncio.create_task(self._run(), name="reviews of what goes on")

    async def close(self) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    def add(self, one: Live) -> None:
        self._live.add(one)
        if len(self._live) == 1:
            self._due.set()  # there is something to ask about every second from now on

    def discard(self, one: Live) -> None:
        self._live.discard(one)

    def changed(self, kind: str) -> None:
        """Something of this kind has changed; empty: anything may have."""
        if kind in DECISIVE or not kind:
            self._authorities |= kind in ("cert_authority", "")
            self._due.set()

    async def _run(self) -> None:
        while True:
            pause_s = max(self._every_s, limits.REVIEW_REST * self._took_s) if self._live else None
            try:
                async with asyncio.timeout(pause_s):
                    await self._due.wait()
            except TimeoutError:
                await self._pass()
            else:
                # The rest of the burst.
                await asyncio.sleep(max(limits.REVIEW_SETTLE_S, self._took_s))
                await self._pass()

    async def _pass(self) -> None:
        self._due.clear()
        authorities, self._authorities = self._authorities, False
        self._took_s = 0.0
        began = self._monotonic()
        for number, one in enumerate(tuple(self._live), 1):
            try:
                one.review(authorities=authorities)
            except Exception:
                # The others are still to be asked, and who cannot be asked about does not go on.
                self._log.exception("a connection cannot be reviewed and is ended")
                one.end(UNSURE)
            if number % limits.REVIEWS_PER_TURN == 0:
                self._took_s += self._monotonic() - began
                await asyncio.sleep(0)
                began = self._monotonic()
        self._took_s += self._monotonic() - began
        self.passes += 1
