"""Leases as they are stored: one item each, which expires by itself, under the name of their user
and what is counted.

The count and the new lease must be one: every commit that adds a lease also replaces the user's gate, at the
revision that was read before counting. Of two that count at once the second one counts again.
"""

from __future__ import annotations

from collections.abc import Sequence
from urllib.parse import quote

import msgspec

from pkgs.auth import limits
from pkgs.auth.backend.interface import Backend, Create, Delete, Operation, Put, Update
from pkgs.common.api.semaphores import HeldLease
from pkgs.common.errors import AlreadyExistsError, ConflictError, NotFoundError

PREFIX = "/semaphore/"


class _Lease(msgspec.Struct, frozen=True):
    host: str
    """Id of the agent that holds it."""


_decoder = msgspec.json.Decoder(_Lease)


class Leases:
    def __init__(self, backend: Backend) -> None:
        self._backend = backend

    async def acquire(self, wanted: HeldLease, host: str, most: int) -> bool:
        """Whether one more place was free, or the lease was this host's already. Raises ConflictError when
        others are quicker again and again."""
        at_gate, key = _gate(wanted), _key(wanted)
        for _ in range(limits.LEASE_TRIES):
            gate = await self._backend.get(at_gate)
            held = {item.key: item for item in await self._backend.all(_leases(wanted))}
            mine = held.pop(key, None)
            if mine is not None and _decoder.decode(mine.value).host != host:
                return False
            if len(held) >= most:
                return False
            expires = self._expires()
            gate_until = self._backend.clock() + limits.LEASE_GATE_S
            operations: list[Operation] = [
                Create(at_gate, b"{}", gate_until)
                if gate is None
                else Update(at_gate, b"{}", gate.revision, gate_until),
                Put(key, msgspec.json.encode(_Lease(host)), expires),
            ]
            try:
                await self._backend.commit(operations)
            except (AlreadyExistsError, ConflictError, NotFoundError):
                continue
            return True
        raise ConflictError("too many connections of one user begin at once", hint="try again")

    async def renew(self, host: str, leases: Sequence[HeldLease]) -> list[str]:
        """Renews those that are this host's; the ids of the others."""
        lost: list[str] = []
        going: dict[str, Operation] = {}
        for lease in leases:
            key = _key(lease)
            item = await self._backend.get(key)
            if item is None or _decoder.decode(item.value).host != host:
                lost.append(lease.lease_id)
            else:
                going[lease.lease_id] = Update(key, item.value, item.revision, self._expires())
        if going:
            lost += await self._commit(going)
        return lost

    async def _commit(self, going: dict[str, Operation]) -> list[str]:
        try:
            await self._backend.commit(list(going.values()))
            return []
        except (ConflictError, NotFoundError):
            pass  # one of them went meanwhile: each for itself
        lost = []
        for lease_id, operation in going.items():
            try:
                await self._backend.commit([operation])
            except (ConflictError, NotFoundError):
                lost.append(lease_id)
        return lost

    async def release(self, host: str, leases: Sequence[HeldLease]) -> None:
        for lease in leases:
            key = _key(lease)
            item = await self._backend.get(key)
            if item is None or _decoder.decode(item.value).host != host:
                continue
            try:
                await self._backend.commit([Delete(key, item.revision)])
            except (ConflictError, NotFoundError):
                continue  # it ran out meanwhile

    def _expires(self) -> float:
        return self._backend.clock() + limits.LEASE_TTL_S


def _of_user(lease: HeldLease) -> str:
    return f"{PREFIX}{lease.kind}s/{quote(lease.user, safe='')}/"


def _leases(lease: HeldLease) -> str:
    return f"{_of_user(lease)}lease/"


def _key(lease: HeldLease) -> str:
    return f"{_leases(lease)}{lease.lease_id}"


def _gate(lease: HeldLease) -> str:
    return f"{_of_user(lease)}gate"
