"""Which hosts have joined, and as what. Decides whether a host id is new; presence is another matter."""

from __future__ import annotations

import msgspec

from pkgs.auth.backend.interface import Backend, Create, Operation, Update
from pkgs.common.pki.identity import SystemRole


class Host(msgspec.Struct, frozen=True):
    roles: tuple[SystemRole, ...]
    node_name: str
    joined: float


class Hosts:
    def __init__(self, backend: Backend) -> None:
        self._backend = backend

    async def get(self, host_id: str) -> tuple[Host, int] | None:
        item = await self._backend.get(_key(host_id))
        return (msgspec.json.decode(item.value, type=Host), item.revision) if item else None

    def registration(
        self, host_id: str, role: SystemRole, node_name: str, known: tuple[Host, int] | None
    ) -> Operation:
        """The write that makes the host known as this role; of two at the same moment one fails."""
        now = self._backend.clock()
        if known is None:
            return Create(_key(host_id), msgspec.json.encode(Host((role,), node_name, now)))
        host, revision = known
        roles = tuple(dict.fromkeys((*host.roles, role)))
        return Update(_key(host_id), msgspec.json.encode(Host(roles, node_name, host.joined)), revision)


def _key(host_id: str) -> str:
    return f"/host/{host_id}"
