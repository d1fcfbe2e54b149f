"""The calls of Database Services, and the certificates of databases themselves."""

from __future__ import annotations

from datetime import UTC, datetime

import msgspec

from pkgs.auth import limits
from pkgs.auth.audit.journal import Journal
from pkgs.auth.backend.interface import Delete, Operation, Put
from pkgs.auth.issuing.authorities import Authorities
from pkgs.auth.issuing.reserved import check_principals
from pkgs.auth.permissions import Permissions
from pkgs.auth.resources.inventory import checked_labels
from pkgs.auth.state.store import Store, encode, expires_of, key_for, key_of
from pkgs.common.access.validate import validate
from pkgs.common.api.databases import (
    ANNOUNCED_AT_ONCE,
    AnnounceDatabases,
    DatabaseCert,
    DatabaseServerCert,
    SignDatabaseCert,
    SignDatabaseServerCert,
)
from pkgs.common.api.login import Done
from pkgs.common.errors import DeniedError, InputError, LimitExceededError, NotFoundError
from pkgs.common.events.codes import CERT_CREATE
from pkgs.common.events.format import rfc3339
from pkgs.common.pki import x509
from pkgs.common.pki.identity import Identity, SystemRole
from pkgs.common.pki.keys import check_public_pem
from pkgs.common.resources.kinds import DatabaseServer, DatabaseService
from pkgs.common.resources.metadata import Metadata
from pkgs.common.rpc.calls import Caller


class DatabaseHandlers:
    def __init__(
        self, store: Store, permissions: Permissions, authorities: Authorities, journal: Journal
    ) -> None:
        self._store = store
        self._permissions = permissions
        self._authorities = authorities
        self._journal = journal

    # Presence.

    async def announce(self, caller: Caller, request: AnnounceDatabases) -> Done:
        """Only for the caller's own host id (attack A39)."""
        host = _agent(caller)
        if len(request.servers) > ANNOUNCED_AT_ONCE or len(request.forget) > ANNOUNCED_AT_ONCE:
            raise LimitExceededError(f"at most {ANNOUNCED_AT_ONCE} databases in one call")
        ttl = min(max(request.ttl_s, limits.HEARTBEAT_TTL_MIN_S), limits.HEARTBEAT_TTL_MAX_S)
        expires = datetime.fromtimestamp(int(self._store.backend.clock()) + ttl, UTC)
        named = [request.service.name, *(server.spec.host_id for server in request.servers)]
        if any(name != host.name for name in named):
            raise DeniedError("a host may only speak for itself", detail=f"{host.name} spoke for another")
        servers = list({told.name: self._server(host, told, expires) for told in request.servers}.values())
        self._check_count(host, servers)
        # One commit: with many databases a heartbeat costs no more than with one.
        operations: list[Operation] = [
            Put(key_for(server), encode(server), expires_of(server)) for server in servers
        ]
        operations += self._forgetting(host, set(request.forget) - {server.name for server in servers})
        await self._store.put(self._service(request.service, expires), *operations)
        return Done()

    def _server(self, host: Identity, told: DatabaseServer, expires: datetime) -> DatabaseServer:
        database = told.spec.database
        labels = checked_labels(database.metadata.labels)
        inner = msgspec.structs.replace(
            database,
            metadata=Metadata(name=database.name, labels=labels, description=database.metadata.description),
        )
        server = DatabaseServer(
            metadata=Metadata(name=database.name, labels=labels, expires=expires),
            sub_kind=host.name,
            spec=msgspec.structs.replace(told.spec, host_id=host.name, database=inner),
        )
        validate(server)
        if len(encode(server)) > limits.HEARTBEAT_BYTES:
            raise LimitExceededError(f"a database may have {limits.HEARTBEAT_BYTES:,} bytes about itself")
        return server

    def _service(self, told: DatabaseService, expires: datetime) -> DatabaseService:
        service = DatabaseService(metadata=Metadata(name=told.name, expires=expires), spec=told.spec)
        validate(service)
        if len(encode(service)) > limits.HEARTBEAT_BYTES:
            raise LimitExceededError(f"a service may tell {limits.HEARTBEAT_BYTES:,} bytes about itself")
        return service

    def _check_count(self, host: Identity, servers: list[DatabaseServer]) -> None:
        own = {r.name for r in self._store.all("db_server") if r.sub_kind == host.name}
        if len(own.union(server.name for server in servers)) > limits.DATABASES_OF_ONE_AGENT:
            raise LimitExceededError(f"an agent may serve {limits.DATABASES_OF_ONE_AGENT:,} databases")

    def _forgetting(self, host: Identity, names: set[str]) -> list[Operation]:
        known = (self._store.get("db_server", name, host.name) for name in sorted(names))
        return [
            Delete(key_of("db_server", server.name, host.name), int(server.metadata.revision))
            for server in known
            if server is not None
        ]

    # Certificates.

    async def sign_client(self, caller: Caller, request: SignDatabaseCert) -> DatabaseCert:
        """For an agent that serves the database, as any user of it: which of them its users may be is the
        agent's decision, as everything that happens behind it."""
        host = _agent(caller)
        if self._store.get("db_server", request.database, host.name) is None:
            raise DeniedError(
                "this host does not serve that database", detail=f"{host.name}: {request.database[:80]}"
            )
        now = self._store.backend.clock()
        until = now + limits.DATABASE_CERT_TTL_S
        cert = x509.sign_database_client(
            self._authorities.database_client(),
            request.user,
            check_public_pem(request.public_key),
            valid_after=now - limits.BACKDATE_S,
            valid_before=until,
        )
        await self._journal.write(
            self._journal.event(
                CERT_CREATE,
                cert_type="database",
                user=f"{host.name}.{self._authorities.cluster_name}",
                identity={
                    "user": request.user,
                    "expires": rfc3339(until),
                },
                route_to_database={"service_name": request.database, "username": request.user},
            )
        )
        return DatabaseCert(cert=cert, expires_at=until)

    async def sign_server(self, caller: Caller, request: SignDatabaseServerCert) -> DatabaseServerCert:
        self._permissions.require(caller, "database_certificate", "create")
        if not 0 < request.ttl_s <= limits.DATABASE_SERVER_CERT_TTL_MAX_S:
            raise InputError("a database's certificate lives between 1 second and 10 years")
        if not request.names:
            raise InputError("a database's certificate needs at least one name", hint="give --host")
        check_principals(request.names, self._store, own_host_id="")
        now = self._store.backend.clock()
        cert = x509.sign_database_server(
            self._authorities.database_server(),
            request.names,
            check_public_pem(request.public_key),
            valid_after=now - limits.BACKDATE_S,
            valid_before=now + request.ttl_s,
        )
        roots = self._authorities.trust.tls_roots_pem("db_client")
        if not roots:
            raise NotFoundError("this cluster has no authority for clients of databases")
        await self._journal.write(
            self._journal.event(
                CERT_CREATE,
                cert_type="database",
                user=self._journal.actor(caller),
                identity={"principals": list(request.names)},
            )
        )
        return DatabaseServerCert(cert=cert, client_authorities=roots)


def _agent(caller: Caller) -> Identity:
    host = caller.host()
    if not host.is_host(SystemRole.DB):
        raise DeniedError("this call is for Database Services")
    return host
