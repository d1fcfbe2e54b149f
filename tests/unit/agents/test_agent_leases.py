"""The agent's side of leases: renewed, given back, taken anew, and what happens without the Auth Service."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from pkgs.agents.base.leases import Leases, TooManyConnectionsError
from pkgs.common.api.login import Done
from pkgs.common.api.semaphores import AcquireLease, LeaseAnswer, ReleaseLeases, Renewed, RenewLeases
from pkgs.common.errors import AccessError, DeniedError, UnavailableError
from tests.harness.wait import until


class Auth:
    """Counts, and notes what it was asked."""

    def __init__(self, most: int = 1) -> None:
        self.most = most
        self.held: set[str] = set()
        self.problem: AccessError | None = None
        self.renewed = asyncio.Event()

    async def call(self, request: Any, *, deadline_s: float = 10.0) -> Any:
        if isinstance(request, RenewLeases):
            self.renewed.set()
        if self.problem is not None:
            raise self.problem
        match request:
            case AcquireLease(lease_id=found):
                granted = len(self.held - {found}) < self.most
                if granted:
                    self.held.add(found)
                return LeaseAnswer(granted=granted, most=self.most)
            case RenewLeases(leases=leases):
                return Renewed(lost=[lease.lease_id for lease in leases if lease.lease_id not in self.held])
            case ReleaseLeases(leases=leases):
                self.held -= {lease.lease_id for lease in leases}
                return Done()


def with_leases(body: Callable[[Auth, Leases, list[str]], Awaitable[None]]) -> None:
    async def main() -> None:
        found = Auth()
        leases = Leases(found, logging.getLogger("t"), renew_every_s=0.02)  # type: ignore[arg-type]
        leases.start()
        async with asyncio.timeout(20):
            await body(found, leases, [])
        await leases.close()
        assert not found.held

    asyncio.run(main())


async def take(leases: Leases, ended: list[str]) -> str:
    def asking(lease_id: str) -> AcquireLease:
        return AcquireLease(lease_id=lease_id, certificate=b"cert", login="root", client_addr="127.0.0.1")

    return await leases.acquire("lia", 1, asking, ended.append)


def test_a_place_is_taken_and_given_back() -> None:
    async def body(found: Auth, leases: Leases, ended: list[str]) -> None:
        lease = await take(leases, ended)
        with pytest.raises(TooManyConnectionsError, match="the limit is 1") as refused:
            await take(leases, ended)
        assert refused.value.most == 1
        leases.release(lease)
        leases.release(lease)
        await until(lambda: not found.held)
        await take(leases, ended)

    with_leases(body)


def test_nobody_gets_a_place_that_cannot_be_counted() -> None:
    async def body(found: Auth, leases: Leases, ended: list[str]) -> None:
        found.problem = UnavailableError("gone")
        with pytest.raises(TooManyConnectionsError, match="cannot be counted"):
            await take(leases, ended)
        found.problem = DeniedError("you are locked")
        with pytest.raises(TooManyConnectionsError, match="you are locked"):
            await take(leases, ended)
        found.problem = None
        await take(leases, ended)

    with_leases(body)


def test_what_may_have_been_granted_unheard_is_given_back() -> None:
    async def body(found: Auth, leases: Leases, ended: list[str]) -> None:
        original = found.call

        async def deaf(request: Any, *, deadline_s: float = 10.0) -> Any:
            answer = await original(request)
            if isinstance(request, AcquireLease):
                raise UnavailableError("the answer was lost")
            return answer

        found.call = deaf  # type: ignore[method-assign]
        with pytest.raises(TooManyConnectionsError):
            await take(leases, ended)
        await until(lambda: not found.held)

    with_leases(body)


def test_f07_connections_go_on_without_the_auth_service() -> None:
    async def body(found: Auth, leases: Leases, ended: list[str]) -> None:
        lease = await take(leases, ended)
        found.problem = UnavailableError("gone")
        for _ in range(3):
            found.renewed.clear()
            await found.renewed.wait()
        found.held.clear()  # it ran out meanwhile
        found.problem = None
        await until(lambda: lease in found.held)
        assert ended == []

    with_leases(body)


def test_a_place_that_others_took_meanwhile_ends_the_connection() -> None:
    async def body(found: Auth, leases: Leases, ended: list[str]) -> None:
        await take(leases, ended)
        found.held = {"other"}
        await until(lambda: ended)
        assert ended == ["too many connections: the limit is 1 at a time in the whole cluster"]
        found.held.clear()

    with_leases(body)
