"""Which hosts have joined, and as what. Decides whether a host id is new; presence is another matter.

A host is known for as long as a certificate of its can be valid, and a little longer; then it is forgotten.
"""

from __future__ import annotations

import contextlib
import hashlib

import msgspec

from pkgs.auth import limits
from pkgs.auth.backend.interface import Backend, Create, Operation, Update
from pkgs.common.api.join import Join
from pkgs.common.errors import ConflictError
from pkgs.common.pki.identity import SystemRole


class Host(msgspec.Struct, frozen=True):
    roles: tuple[SystemRole, ...]
    node_name: str
    joined: float
    request: str = ""
    """What the newest join asked for, as `fingerprint` has it, and when it was granted."""
    granted: float = 0.0

    def answered(self, request: Join, now: float) -> bool:
        """Whether this very request was granted a short while ago. Its answer may have died with us, and to
        give it again gives nothing new: the certificates are for the same keys, and whoever sends it knows
        the token."""
        return self.request == fingerprint(request) and now < self.granted + limits.JOIN_REPEAT_S


def fingerprint(request: Join) -> str:
    """Stands for everything in the request but the address it came from."""
    return hashlib.sha256(msgspec.json.encode(msgspec.structs.replace(request, client_addr=""))).hexdigest()


class Hosts:
    def __init__(self, backend: Backend) -> None:
        self._backend = backend

    async def get(self, host_id: str) -> tuple[Host, int] | None:
        item = await self._backend.get(_key(host_id))
        return (msgspec.json.decode(item.value, type=Host), item.revision) if item else None

    def registration(self, request: Join, known: tuple[Host, int] | None) -> Operation:
        """The write that makes the host known as this role; of two at the same moment one fails."""
        now, key, expires = self._backend.clock(), _key(request.host_id), self._expires()
        asked = fingerprint(request)
        if known is None:
            host = Host((request.role,), request.node_name, now, asked, now)
            return Create(key, msgspec.json.encode(host), expires)
        before, revision = known
        roles = tuple(dict.fromkeys((*before.roles, request.role)))
        host = Host(roles, request.node_name, before.joined, asked, now)
        return Update(key, msgspec.json.encode(host), revision, expires)

    async def keep(self, host_id: str, known: tuple[Host, int]) -> None:
        """Remember the host for the life of a new certificate. When somebody else has written it in the
        meantime, that write has done so already."""
        host, revision = known
        with contextlib.suppress(ConflictError):
            await self._backend.update(
                _key(host_id), msgspec.json.encode(host), revision, expires=self._expires()
            )

    def _expires(self) -> float:
        return self._backend.clock() + limits.HOST_CERT_TTL_S + limits.HOST_FORGOTTEN_S


def _key(host_id: str) -> str:
    return f"/host/{host_id}"
