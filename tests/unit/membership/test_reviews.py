"""Asking again about what goes on: when, how often, and what happens when the asking itself fails."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine

import pytest

from pkgs.common.membership import limits
from pkgs.common.membership.reviews import DECISIVE, UNSURE, Reviews
from tests.harness.wait import until

LOG = logging.getLogger("test.reviews")


class One:
    """A connection that counts how often it is asked about."""

    def __init__(self, broken: bool = False) -> None:
        self.asked: list[bool] = []
        self.ended: list[str] = []
        self._broken = broken

    def review(self, *, authorities: bool) -> None:
        self.asked.append(authorities)
        if self._broken:
            raise RuntimeError("cannot be asked")

    def end(self, text: str) -> None:
        self.ended.append(text)


def run(
    body: Callable[[Reviews, asyncio.AbstractEventLoop], Coroutine[None, None, None]], every_s: float = 60.0
) -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        reviews = Reviews(LOG, loop.time, every_s)
        reviews.start()
        try:
            async with asyncio.timeout(20):
                await body(reviews, loop)
        finally:
            await reviews.close()

    asyncio.run(main())


def test_a_thousand_changes_cost_one_pass(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "REVIEW_SETTLE_S", 0.1)

    async def body(reviews: Reviews, loop: asyncio.AbstractEventLoop) -> None:
        ones = [One() for _ in range(50)]
        for one in ones:
            reviews.add(one)
        await until(lambda: reviews.passes == 1)
        for number in range(1000):
            reviews.changed("role" if number % 2 else "lock")
            if number % 100 == 0:
                await asyncio.sleep(0)
        await until(lambda: reviews.passes == 2)
        await asyncio.sleep(3 * limits.REVIEW_SETTLE_S)
        assert reviews.passes == 2
        assert all(len(one.asked) == 2 for one in ones)

    run(body)


@pytest.mark.parametrize("kind", sorted(DECISIVE))
def test_a_decisive_change_is_heard_soon(kind: str) -> None:
    async def body(reviews: Reviews, loop: asyncio.AbstractEventLoop) -> None:
        one = One()
        reviews.add(one)
        await until(lambda: reviews.passes == 1)
        began = loop.time()
        reviews.changed(kind)
        await until(lambda: reviews.passes == 2)
        assert loop.time() - began < 2
        assert one.asked[-1] is (kind == "cert_authority")
        reviews.changed("role")
        await until(lambda: reviews.passes == 3)
        assert one.asked[-1] is False

    run(body)


def test_other_changes_are_none_of_its_business() -> None:
    async def body(reviews: Reviews, loop: asyncio.AbstractEventLoop) -> None:
        reviews.add(One())
        await until(lambda: reviews.passes == 1)
        reviews.changed("proxy")
        reviews.changed("cluster_networking_config")
        await asyncio.sleep(2 * limits.REVIEW_SETTLE_S)
        assert reviews.passes == 1

    run(body)


def test_time_alone_makes_it_ask_and_nobody_makes_it_rest() -> None:
    async def body(reviews: Reviews, loop: asyncio.AbstractEventLoop) -> None:
        await asyncio.sleep(0.1)
        assert reviews.passes == 0
        one = One()
        reviews.add(one)
        await until(lambda: len(one.asked) >= 3)
        reviews.discard(one)
        await asyncio.sleep(0.05)
        asked, passes = len(one.asked), reviews.passes
        await asyncio.sleep(0.1)
        assert (len(one.asked), reviews.passes) == (asked, passes)

    run(body, every_s=0.02)


def test_who_cannot_be_asked_about_ends_and_the_others_are_asked() -> None:
    async def body(reviews: Reviews, loop: asyncio.AbstractEventLoop) -> None:
        broken, good = [One(broken=True) for _ in range(3)], [One() for _ in range(3)]
        for one in (*broken, *good):
            reviews.add(one)
        await until(lambda: reviews.passes == 1)
        assert all(one.ended == [UNSURE] for one in broken)
        assert all(one.asked and not one.ended for one in good)

    run(body)


def test_a_slow_pass_is_followed_by_a_rest(monkeypatch: pytest.MonkeyPatch) -> None:
    """Asking costs at most a fifth of a processor, however much there is to ask."""
    times = iter([0.0, 10.0, *[10.0] * 1000])

    async def main() -> None:
        reviews = Reviews(LOG, lambda: next(times), 0.01)
        monkeypatch.setattr(limits, "REVIEW_SETTLE_S", 0.0)
        reviews.start()
        one = One()
        reviews.add(one)
        await until(lambda: reviews.passes == 1)
        await asyncio.sleep(0.3)
        assert reviews.passes == 1
        await reviews.close()

    asyncio.run(main())
