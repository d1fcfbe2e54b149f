"""A user's stream that passes through the proxy, asked about again while it lasts.

The agent ends its session by itself, and says why where the user looks. So the proxy leaves it a moment, and
cuts what is still there: an agent that is cut off from the cluster, or does not obey it (attack A14).
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine

from pkgs.common.access.types import Decision
from pkgs.common.membership.reviews import Reviews
from pkgs.common.net.relay import RelayCounts
from pkgs.proxy import limits

Ask = Callable[[bool], Decision]
"""Decides anew; with True also whether the certificate's authority is still trusted."""
UNTRUSTED = Decision(False, ("the certificate's authority is no longer trusted",))


class Passing:
    """One stream, for `Reviews`. `close` it when the stream is over."""

    def __init__(self, ask: Ask, cut: Callable[[str], None]) -> None:
        """`cut(reason)` ends the stream; called at most once."""
        self._ask = ask
        self._cut: Callable[[str], None] | None = cut
        self._timer: asyncio.TimerHandle | None = None

    def review(self, *, authorities: bool) -> None:
        if self._timer is not None:
            return
        decision = self._ask(authorities)
        if not decision:
            reason = "; ".join(decision.reasons)
            self._timer = asyncio.get_running_loop().call_later(limits.CUT_AFTER_S, self.end, reason)

    def end(self, text: str) -> None:
        cut, self._cut = self._cut, None
        if cut is not None:
            cut(text)

    def close(self) -> None:
        self._cut = None
        if self._timer is not None:
            self._timer.cancel()


async def pass_on(
    relaying: Coroutine[None, None, RelayCounts], ask: Ask, reviews: Reviews
) -> tuple[RelayCounts | None, str]:
    """Relay until either side ends, or `ask` has said no and the agent did not end it: then the reason."""
    task = asyncio.ensure_future(relaying)
    why = ""

    def cut(reason: str) -> None:
        nonlocal why
        why = reason
        task.cancel()

    passing = Passing(ask, cut)
    reviews.add(passing)
    try:
        await asyncio.wait({task})
    except asyncio.CancelledError:
        task.cancel()
        await asyncio.wait({task})
        raise
    finally:
        reviews.discard(passing)
        passing.close()
    return (None, why) if task.cancelled() else (task.result(), "")
