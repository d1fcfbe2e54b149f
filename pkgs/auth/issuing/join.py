"""Joining: a token against host certificates, and renewing those."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509 import load_pem_x509_certificate

from pkgs.auth import limits
from pkgs.auth.audit.journal import Journal
from pkgs.auth.backend.interface import Delete, Operation
from pkgs.auth.gate import Gate
from pkgs.auth.issuing.authorities import Authorities
from pkgs.auth.issuing.hosts import Host, Hosts
from pkgs.auth.issuing.reserved import check_principals
from pkgs.auth.state.store import Store, key_of
from pkgs.common.access.locks import Interaction
from pkgs.common.api.join import HostCerts, Join, RenewHostCerts
from pkgs.common.errors import (
    AlreadyExistsError,
    ConflictError,
    DeniedError,
    InputError,
    InternalError,
    NotFoundError,
)
from pkgs.common.events.codes import CERT_CREATE, INSTANCE_JOIN, INSTANCE_JOIN_FAIL
from pkgs.common.events.format import rfc3339
from pkgs.common.events.types import Event
from pkgs.common.pki import sshcert, x509
from pkgs.common.pki.certspec import HostCertSpec
from pkgs.common.pki.identity import Identity, PeerKind, SystemRole
from pkgs.common.pki.keys import check_public_line, check_public_pem
from pkgs.common.resources.kinds import Token
from pkgs.common.resources.kinds.servers import OPENSSH
from pkgs.common.resources.names import valid_host_id, valid_host_name
from pkgs.common.resources.secrets import masked
from pkgs.common.rpc.calls import Caller

ONE_TIME = "teleport.internal/one-time"
"""Label of a token that is used up by the first host that joins with it."""
REFUSED = "the join token is not valid, has expired, or is not for this role"
NOT_BY_TOKEN = frozenset({SystemRole.AUTH})
"""Roles that no token gives: they are made by the Auth Service for itself."""


@dataclass(frozen=True, slots=True)
class _Wanted:
    """What certificates are asked for, once it is decided that they may be."""

    host_id: str
    roles: tuple[SystemRole, ...]
    node_name: str
    additional: tuple[str, ...]


class JoinHandlers:
    def __init__(
        self,
        store: Store,
        hosts: Hosts,
        authorities: Authorities,
        journal: Journal,
        gate: Gate,
        check_locks: Callable[[Interaction], None],
    ) -> None:
        self._store = store
        self._hosts = hosts
        self._authorities = authorities
        self._journal = journal
        self._gate = gate
        self._check_locks = check_locks

    async def join(self, caller: Caller, request: Join) -> HostCerts:
        address = self._gate.enter(caller, request.client_addr)
        token: Token | None = None
        try:
            self._check_names(request.host_id, request.node_name, request.additional_principals, request.role)
            ssh_key = check_public_line(request.ssh_public_key)
            tls_key = check_public_pem(request.tls_public_key)
            known = await self._hosts.get(request.host_id)
            is_new = known is None or not known[0].answered(request, self._store.backend.clock())
            if is_new:
                token = self._token(caller, request)
            # Told only to those who hold a token (attack A14).
            self._check_locks(Interaction(None, (request.host_id,), join_token=request.token))
            if is_new:
                await self._register(caller, request, token, known)
        except (DeniedError, InputError, AlreadyExistsError) as error:
            await self._journal.write(
                self._journal.event(
                    INSTANCE_JOIN_FAIL,
                    host_id=request.host_id,
                    node_name=request.node_name,
                    role=request.role.value,
                    method="token",
                    token_name=masked(request.token),
                    success=False,
                    error=f"{error.message} {error.detail}".strip(),
                    addr_remote=address or None,
                )
            )
            raise
        wanted = _Wanted(
            request.host_id, (request.role,), request.node_name, tuple(request.additional_principals)
        )
        certs = self._sign(wanted, ssh_key, tls_key)
        joined = self._journal.event(
            INSTANCE_JOIN,
            host_id=request.host_id,
            node_name=request.node_name,
            role=request.role.value,
            method="token" if request.token else "local",
            token_name=masked(request.token),
            token_expires=rfc3339(token.metadata.expires.timestamp())
            if token is not None and token.metadata.expires is not None
            else None,
            success=True,
            addr_remote=address or None,
        )
        await self._journal.write(joined, self._created(wanted))
        return certs

    def _token(self, caller: Caller, request: Join) -> Token | None:
        """The token that lets the caller in; None for the administrator, who needs none."""
        if caller.admin and not request.token and request.role is not SystemRole.BOT:
            return None
        if request.role in NOT_BY_TOKEN or request.role is SystemRole.BOT:
            # A machine is no host: it joins by a call of its own (attack A37).
            raise DeniedError(REFUSED, detail=f"role {request.role.value} is not given by token")
        if not 0 < len(request.token) <= limits.TOKEN_TEXT_MAX:
            raise DeniedError(REFUSED, detail="no token")
        token = self._store.get("token", request.token)
        if not isinstance(token, Token):
            raise DeniedError(REFUSED, detail="unknown or expired token")
        if token.spec.join_method != "token":
            # The name of such a token is no secret: what proves a host is its method, which we cannot check.
            raise DeniedError(REFUSED, detail=f"join method {token.spec.join_method} is not supported yet")
        if request.role.value not in token.spec.roles:
            raise DeniedError(REFUSED, detail=f"token is not for {request.role.value}")
        return token

    async def _register(
        self, caller: Caller, request: Join, token: Token | None, known: tuple[Host, int] | None
    ) -> None:
        """Make the host known and use a one-time token up, in one commit."""
        # An Auth Service does not join, but its id is taken as well: it is in what it tells the audit log.
        taken = (
            known is not None
            or self._store.get("auth_server", request.host_id) is not None
            or self._store.get("node", request.host_id, OPENSSH) is not None
        )
        if taken and not _is_same_host(caller, request):
            raise AlreadyExistsError(
                f"host {request.host_id} has joined already",
                hint="a host joins once per data directory; use an empty one, or keep the identity in it",
            )
        operations: list[Operation] = [self._hosts.registration(request, known)]
        if token is not None and token.metadata.labels.get(ONE_TIME):
            operations.append(Delete(key_of("token", token.name), int(token.metadata.revision)))
        try:
            await self._store.backend.commit(operations)
        except AlreadyExistsError:
            raise AlreadyExistsError(f"host {request.host_id} has joined already") from None
        except (ConflictError, NotFoundError):
            raise DeniedError(REFUSED, detail="used by another host at the same moment") from None

    async def renew(self, caller: Caller, request: RenewHostCerts) -> HostCerts:
        """For the calling host itself, with the system roles its certificate has."""
        identity = caller.host()
        known = await self._hosts.get(identity.name)
        if known is None or not set(identity.system_roles) <= set(known[0].roles):
            raise DeniedError("this host is not a member of the cluster any more", hint="join it again")
        for role in identity.system_roles:
            self._check_names(identity.name, request.node_name, request.additional_principals, role)
        wanted = _Wanted(
            identity.name, identity.system_roles, request.node_name, tuple(request.additional_principals)
        )
        certs = self._sign(
            wanted, check_public_line(request.ssh_public_key), check_public_pem(request.tls_public_key)
        )
        await self._hosts.keep(identity.name, known)
        await self._journal.write(self._created(wanted))
        return certs

    def _check_names(self, host_id: str, node_name: str, additional: list[str], role: SystemRole) -> None:
        if not valid_host_id(host_id):
            raise InputError("host id is not a UUID in its canonical form")
        if node_name and not valid_host_name(node_name):
            raise InputError(
                f"node name {node_name[:80]!r} is not allowed", hint="letters, digits, dots and hyphens"
            )
        # As they will stand in the certificate: `orders.db` would become a name of the cluster's databases.
        named = [node_name, f"{node_name}.{self._authorities.cluster_name}"] if node_name else []
        check_principals([*named, *additional], self._store, own_host_id=host_id, role=role)

    def _sign(self, wanted: _Wanted, ssh_key: str, tls_key: str) -> HostCerts:
        authorities = self._authorities
        now = self._store.backend.clock()
        spec = HostCertSpec(
            host_id=wanted.host_id,
            node_name=wanted.node_name,
            cluster=authorities.cluster_name,
            system_roles=wanted.roles,
            additional_principals=wanted.additional,
            valid_after=now - limits.BACKDATE_S,
            valid_before=now + limits.HOST_CERT_TTL_S,
        )
        ssh_cert = sshcert.sign_host_cert(authorities.host_ssh, spec, ssh_key)
        tls_cert = x509.sign_host_tls(authorities.host_tls, spec, tls_key)
        der = load_pem_x509_certificate(tls_cert.encode()).public_bytes(Encoding.DER)
        _check_finished(spec, x509.verify_peer(der, trust=authorities.trust, now=now))
        sshcert.verify_host_cert(
            sshcert.line_to_blob(ssh_cert), trust=authorities.trust, names=[wanted.host_id], now=now
        )
        return HostCerts(
            host_id=wanted.host_id,
            cluster_name=authorities.cluster_name,
            ssh_cert=ssh_cert,
            tls_cert=tls_cert,
            authorities=authorities.for_clients(),
        )

    def _created(self, wanted: _Wanted) -> Event:
        return self._journal.event(
            CERT_CREATE,
            cert_type="host",
            identity={
                "user": f"{wanted.host_id}.{self._authorities.cluster_name}",
                "roles": [role.value for role in wanted.roles],
                "principals": list(wanted.additional),
            },
        )


def _is_same_host(caller: Caller, request: Join) -> bool:
    """Who may join a host id that is known, for another role or because an identity was lost: the
    administrator, and that very host over a connection of its own.

    A proxy forwards the joins of strangers over its connection, always naming the stranger's address: such
    a call speaks for the stranger and not for the proxy's host."""
    if caller.admin:
        return True
    identity = caller.identity
    return (
        identity is not None
        and identity.kind is PeerKind.HOST
        and identity.name == request.host_id
        and not request.client_addr
    )


def _check_finished(spec: HostCertSpec, identity: Identity) -> None:
    if (
        identity.name != spec.host_id
        or set(identity.system_roles) != set(spec.system_roles)
        or identity.cluster != spec.cluster
    ):
        raise InternalError("a host certificate did not come out as meant and was withheld")
