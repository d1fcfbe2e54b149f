"""The places of users whose roles limit their connections in the whole cluster, on the agent's side.

    none --login, granted--> held --renewed--> held --connection over--> given back
                                  --lost, and granted anew--> held
                                  --lost, and full meanwhile--> the connection is ended

Taken at the login with the certificate that was just proven. Connections to servers are counted by
themselves, and so are those to databases. While the Auth Service cannot be reached nobody whose connections
are limited gets a new one; those that exist go on, and are counted again when it is back.
"""

from __future__ import annotations

import asyncio
import logging
import uuid
from collections.abc import Callable
from dataclasses import dataclass

from pkgs.agents.base.limits import LEASE_CALL_S, LEASE_RENEW_S, LEASES_PER_CALL
from pkgs.common.api.semaphores import (
    AcquireDatabaseLease,
    AcquireLease,
    HeldLease,
    LeaseAnswer,
    LeaseKind,
    ReleaseLeases,
    RenewLeases,
)
from pkgs.common.errors import AccessError, DeniedError, LimitExceededError
from pkgs.common.rpc.calls import AsyncClient

Acquire = AcquireLease | AcquireDatabaseLease
_WHAT: dict[LeaseKind, str] = {
    "connection": "connections",
    "database_connection": "connections to databases",
}


class TooManyConnectionsError(LimitExceededError):
    """The user has as many connections as the roles allow, or it cannot be known."""

    def __init__(self, message: str, most: int) -> None:
        super().__init__(message)
        self.most = most


@dataclass(frozen=True, slots=True)
class Lease:
    """One connection's place."""

    user: str
    request: Acquire
    end: Callable[[str], None]
    """Ends the connection, with a text for its user."""

    @property
    def lease_id(self) -> str:
        return self.request.lease_id

    @property
    def kind(self) -> LeaseKind:
        return "connection" if isinstance(self.request, AcquireLease) else "database_connection"

    @property
    def held(self) -> HeldLease:
        return HeldLease(kind=self.kind, user=self.user, lease_id=self.lease_id)


class Leases:
    """All leases of one agent. `start` begins to renew them; `close` gives them back."""

    def __init__(
        self, client: AsyncClient, log: logging.Logger, *, renew_every_s: float = LEASE_RENEW_S
    ) -> None:
        self._client = client
        self._log = log
        self._renew_every_s = renew_every_s
        self._held: dict[str, Lease] = {}
        self._over: dict[str, HeldLease] = {}
        """To be given back: those that are over, and those that may have been granted unheard."""
        self._wanted = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        self._task = asyncio.create_task(self._keep(), name="leases")

    async def close(self) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        self._over |= {lease.lease_id: lease.held for lease in self._held.values()}
        self._held.clear()
        await self._give_back()

    async def acquire(
        self,
        user: str,
        most: int,
        asking: Callable[[str], Acquire],
        end: Callable[[str], None],
    ) -> str:
        """The id of a place for one more connection of this user; `asking` makes the request with that id.
        Raises TooManyConnectionsError."""
        lease = Lease(user, asking(str(uuid.uuid4())), end)
        try:
            answer = await self._ask(lease)
        except DeniedError as problem:
            raise TooManyConnectionsError(problem.message, most) from None
        except AccessError as problem:
            self._later(lease)
            self._log.warning("a limit on connections cannot be checked: %s", problem, extra={"user": user})
            raise TooManyConnectionsError(
                "the number of your connections is limited, and it cannot be counted while the Auth Service "
                "is not reached: try again later",
                most,
            ) from None
        except asyncio.CancelledError:
            self._later(lease)
            raise
        if not answer.granted:
            raise TooManyConnectionsError(_too_many(lease.kind, answer.most), answer.most)
        self._held[lease.lease_id] = lease
        return lease.lease_id

    def release(self, lease_id: str) -> None:
        """The connection is over."""
        if lease := self._held.pop(lease_id, None):
            self._later(lease)

    def _later(self, lease: Lease) -> None:
        self._over[lease.lease_id] = lease.held
        self._wanted.set()

    async def _ask(self, lease: Lease) -> LeaseAnswer:
        return await self._client.call(lease.request, deadline_s=LEASE_CALL_S)

    async def _keep(self) -> None:
        loop = asyncio.get_running_loop()
        renew_at = loop.time() + self._renew_every_s
        while True:
            try:
                async with asyncio.timeout_at(renew_at):
                    await self._wanted.wait()
            except TimeoutError:
                renew_at = loop.time() + self._renew_every_s
                await self._renew()
            self._wanted.clear()
            await self._give_back()

    async def _renew(self) -> None:
        leases = list(self._held.values())
        for first in range(0, len(leases), LEASES_PER_CALL):
            part = leases[first : first + LEASES_PER_CALL]
            try:
                renewed = await self._client.call(
                    RenewLeases(leases=[lease.held for lease in part]), deadline_s=LEASE_CALL_S
                )
            except AccessError as problem:
                self._log.warning("leases of connections are not renewed: %s", problem)
                return
            for lease_id in renewed.lost:
                await self._take_anew(lease_id)

    async def _take_anew(self, lease_id: str) -> None:
        """The cluster forgot it (it was not reached for too long): others may have taken the place."""
        lease = self._held.get(lease_id)
        if lease is None:
            return
        try:
            answer = await self._ask(lease)
        except DeniedError as problem:
            self._log.info("a connection's place is refused: %s", problem, extra={"user": lease.user})
            return  # what denies ends the connection, or spares it, by its own rules
        except AccessError as problem:
            self._log.warning("a connection's place is not known: %s", problem, extra={"user": lease.user})
            return
        if not answer.granted and self._held.pop(lease_id, None) is not None:
            lease.end(_too_many(lease.kind, answer.most))

    async def _give_back(self) -> None:
        leases = list(self._over.values())[:LEASES_PER_CALL]
        if not leases:
            return
        try:
            await self._client.call(ReleaseLeases(leases=leases), deadline_s=LEASE_CALL_S)
        except AccessError as problem:
            self._log.warning("leases of connections are not given back: %s", problem)
            return  # at the next renewal; they run out by themselves too
        for lease in leases:
            self._over.pop(lease.lease_id, None)
        if self._over:
            self._wanted.set()


def _too_many(kind: LeaseKind, most: int) -> str:
    return f"too many {_WHAT[kind]}: the limit is {most} at a time in the whole cluster"
