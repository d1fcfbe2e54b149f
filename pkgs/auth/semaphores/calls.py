"""The calls of agents for the leases of their users' connections."""

from __future__ import annotations

from pkgs.auth import limits
from pkgs.auth.issuing.authorities import Authorities
from pkgs.auth.permissions import Permissions
from pkgs.auth.semaphores.leases import Leases
from pkgs.auth.state.store import Store
from pkgs.common.access.locks import Interaction
from pkgs.common.access.options import SessionOptions, merge_options
from pkgs.common.api.login import Done
from pkgs.common.api.semaphores import (
    AcquireDatabaseLease,
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
from pkgs.common.pki.x509 import verify_peer
from pkgs.common.resources.names import valid_host_id
from pkgs.common.rpc.calls import Caller


class SemaphoreHandlers:
    def __init__(
        self, store: Store, leases: Leases, permissions: Permissions, authorities: Authorities
    ) -> None:
        self._store = store
        self._leases = leases
        self._permissions = permissions
        self._authorities = authorities

    async def acquire(self, caller: Caller, request: AcquireLease) -> LeaseAnswer:
        """Whose connection it is, and how many they may have, is read from their own certificate: an agent
        can neither fill the places of somebody it never saw, nor choose the limit."""
        host = _agent(caller, SystemRole.NODE)
        _check_id(request.lease_id)
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
        wanted = HeldLease(user=user.name, lease_id=request.lease_id)
        return await self._acquire(wanted, host, self._options(user).max_connections)

    async def acquire_database(self, caller: Caller, request: AcquireDatabaseLease) -> LeaseAnswer:
        """The same, by the certificate with which the user opened a database of that agent's."""
        host = _agent(caller, SystemRole.DB)
        _check_id(request.lease_id)
        trust, now = self._authorities.trust, self._permissions.now()
        user = verify_peer(request.certificate, trust=trust, now=now, source_addr=request.client_addr)
        route = user.route_to_database
        if user.kind is not PeerKind.USER or user.cluster != host.cluster or route is None:
            raise DeniedError("not a certificate of a user of this cluster for a database")
        if self._store.get("db_server", route.service, host.name) is None:
            raise DeniedError("this host serves no such database")
        self._permissions.check_locks(Interaction(user, server_ids=(host.name,)))
        wanted = HeldLease(kind="database_connection", user=user.name, lease_id=request.lease_id)
        return await self._acquire(wanted, host, self._options(user).max_db_connections)

    def _options(self, user: Identity) -> SessionOptions:
        return merge_options(self._permissions.roles(user.roles))

    async def _acquire(self, wanted: HeldLease, host: Identity, most: int) -> LeaseAnswer:
        if not most:
            return LeaseAnswer(granted=True, most=0)
        granted = await self._leases.acquire(wanted, host.name, most)
        return LeaseAnswer(granted=granted, most=most, ttl_s=limits.LEASE_TTL_S)

    async def renew(self, caller: Caller, request: RenewLeases) -> Renewed:
        host = _agent(caller, SystemRole.NODE, SystemRole.DB)
        return Renewed(lost=await self._leases.renew(host.name, _checked(request.leases)))

    async def release(self, caller: Caller, request: ReleaseLeases) -> Done:
        host = _agent(caller, SystemRole.NODE, SystemRole.DB)
        await self._leases.release(host.name, _checked(request.leases))
        return Done()


def _agent(caller: Caller, *roles: SystemRole) -> Identity:
    host = caller.host()
    if not any(map(host.is_host, roles)):
        raise DeniedError("this call is for agents that users connect to")
    return host


def _check_id(lease_id: str) -> None:
    if not valid_host_id(lease_id):
        raise InputError("the id of a lease is a UUID")


def _checked(leases: list[HeldLease]) -> list[HeldLease]:
    """Each once."""
    if len(leases) > limits.LEASES_PER_CALL:
        raise InputError(f"at most {limits.LEASES_PER_CALL} leases in one call")
    if any(not valid_host_id(lease.lease_id) or not lease.user for lease in leases):
        raise InputError("a lease has a user, and a UUID")
    return list({lease.lease_id: lease for lease in leases}.values())
