"""The calls of agents for the leases of their users' connections."""

from __future__ import annotations

from pkgs.auth import limits
from pkgs.auth.issuing.authorities import Authorities
from pkgs.auth.permissions import Permissions
from pkgs.auth.semaphores.leases import Leases
from pkgs.common.access.locks import Interaction
from pkgs.common.access.options import merge_options
from pkgs.common.api.login import Done
from pkgs.common.api.semaphores import (
    AcquireLease,
    HeldLease,
    LeaseAnswer,
    ReleaseLeases,
    Renewed,
    RenewLeases,
)
from pkgs.common.errors import DeniedError, InputError
from pkgs.common.pki.identity import Identity, PeerKind, SystemRole
from pkgs.common.pki.sshcert import verify_user_cert
from pkgs.common.resources.names import valid_host_id
from pkgs.common.rpc.calls import Caller


class SemaphoreHandlers:
    def __init__(self, leases: Leases, permissions: Permissions, authorities: Authorities) -> None:
        self._leases = leases
        self._permissions = permissions
        self._authorities = authorities

    async def acquire(self, caller: Caller, request: AcquireLease) -> LeaseAnswer:
        """Whose connection it is, and how many they may have, is read from their own certificate: an agent
        can neither fill the places of somebody it never saw, nor choose the limit."""
        host = _agent(caller)
        if not valid_host_id(request.lease_id):
            raise InputError("the id of a lease is a UUID")
        user = verify_user_cert(
            request.certificate,
            trust=self._authorities.trust,
            login=request.login,
            source_addr=request.client_addr,
            now=self._permissions.now(),
            relayed_to=host.name,
        )
        if user.kind is not PeerKind.USER or user.cluster != host.cluster:
            raise DeniedError("not a user of this cluster")
        self._permissions.check_locks(Interaction(user, server_ids=(host.name,), login=request.login))
        most = merge_options(self._permissions.roles(user.roles)).max_connections
        if not most:
            return LeaseAnswer(granted=True, most=0)
        granted = await self._leases.acquire(user.name, request.lease_id, host.name, most)
        return LeaseAnswer(granted=granted, most=most, ttl_s=limits.LEASE_TTL_S)

    async def renew(self, caller: Caller, request: RenewLeases) -> Renewed:
        host = _agent(caller)
        return Renewed(lost=await self._leases.renew(host.name, _pairs(request.leases)))

    async def release(self, caller: Caller, request: ReleaseLeases) -> Done:
        host = _agent(caller)
        await self._leases.release(host.name, _pairs(request.leases))
        return Done()


def _agent(caller: Caller) -> Identity:
    host = caller.host()
    if not host.is_host(SystemRole.NODE):
        raise DeniedError("this call is for servers that people log in to")
    return host


def _pairs(leases: list[HeldLease]) -> list[tuple[str, str]]:
    if len(leases) > limits.LEASES_PER_CALL:
        raise InputError(f"at most {limits.LEASES_PER_CALL} leases in one call")
    if any(not valid_host_id(lease.lease_id) or not lease.user for lease in leases):
        raise InputError("a lease has a user, and a UUID")
    return list({lease.lease_id: (lease.user, lease.lease_id) for lease in leases}.values())
