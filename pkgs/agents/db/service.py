"""The Database Service: streams of users in, connections to databases out, and what must happen when the
cluster changes."""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections import Counter
from collections.abc import Mapping, Sequence

from pkgs.agents.base.leases import Leases
from pkgs.agents.base.links import Links
from pkgs.agents.base.seal import Sealer
from pkgs.agents.base.strangers import Strangers
from pkgs.agents.db import limits
from pkgs.agents.db.connection import DbSession, Shared
from pkgs.agents.db.engine import GREETED, Engine
from pkgs.agents.db.engines import ADMINISTRATORS, built_in, by_protocol
from pkgs.agents.db.gate import Gate
from pkgs.agents.db.record.session import Keeping
from pkgs.agents.db.upstream.credentials import Credentials
from pkgs.agents.db.upstream.health import Health
from pkgs.agents.db.upstream.registry import Registry
from pkgs.agents.db.upstream.servers import Servers
from pkgs.agents.db.users.journal import Journal
from pkgs.agents.db.users.keeper import DatabaseUsers
from pkgs.common.api.databases import ANNOUNCED_AT_ONCE, AnnounceDatabases
from pkgs.common.api.tunnel import DialHeader
from pkgs.common.errors import AccessError, DeniedError, InputError, LimitExceededError, NotFoundError
from pkgs.common.membership import limits as membership_limits
from pkgs.common.membership.cache import KINDS_HOST
from pkgs.common.membership.member import Member
from pkgs.common.membership.reviews import Reviews
from pkgs.common.net.dial import split_host_port
from pkgs.common.net.handshake import accept_tls_on
from pkgs.common.net.stream import Stream
from pkgs.common.net.tls import server_context
from pkgs.common.pki.identity import PeerKind, RouteToDatabase, SystemRole
from pkgs.common.resources.kinds import (
    Database,
    DatabaseServer,
    DatabaseServerSpec,
    DatabaseService,
    DatabaseServiceSpec,
    DatabaseSpec,
    HealthCheckConfig,
    TargetHealth,
)
from pkgs.common.resources.metadata import Metadata
from pkgs.common.runtime import paths
from pkgs.common.runtime.process import Process
from pkgs.common.runtime.version import VERSION
from pkgs.common.sessions.recordings import Recorder
from pkgs.common.sessions.unfinished import Unfinished

_WATCHED = (*KINDS_HOST, "db", "db_object_import_rule", "health_check_config")
Announcement = tuple[DatabaseService, tuple[DatabaseServer, ...]]
_ENDING = TargetHealth(status="unhealthy", message="not served any more, but users made on demand are left")
_ALPN = ("postgresql", "teleport-postgres", "teleport-mysql", "teleport-redis", "teleport-clickhouse-http")


class DbServer:
    """A running Database Service."""

    def __init__(self, process: Process, member: Member, engines: Sequence[Engine]) -> None:
        self._process = process
        self._member = member
        self._log = process.log
        self._engines: Mapping[str, Engine] = by_protocol(engines)
        self._announcement: Announcement | None = None
        self._told: set[str] = set()
        self._connections: set[asyncio.Task[None]] = set()
        self._strangers = Strangers(limits.STRANGERS, limits.STRANGERS_OF_ADDRESS)
        self._known = 0
        """Of the connections, those whose client has shown a certificate of the cluster."""
        self._of_user: Counter[str] = Counter()
        self._accepting = True
        cache, now = member.cache, process.clock.now
        self._registry = Registry(
            process.config.db_service,
            self._engines.keys(),
            cache,
            self._databases_changed,
            process.component_log("databases"),
        )
        servers = Servers(Credentials(member.client, lambda: cache.trust, process.clock.monotonic))
        self._health = Health(
            self._registry,
            self._engines,
            servers,
            self._health_configs,
            self._forget_announcement,
            process.component_log("health"),
        )
        self._recorder = Recorder(
            paths.upload_dir(process.data_dir, "db"),
            member.client,
            lambda: cache.recording_config.spec.mode,
            lambda: cache.recording_config.recipients,
            Sealer(member).seal,
            process.clock.monotonic,
            process.component_log("recordings"),
        )
        self._unfinished = Unfinished(
            paths.open_sessions_dir(process.data_dir, "db"),
            member.emitter,
            now,
            process.component_log("sessions"),
        )
        self._reviews = Reviews(process.component_log("sessions"), process.clock.monotonic)
        host_id = member.identity.host_id
        keeping = Keeping(
            emitter=member.emitter,
            recorder=self._recorder,
            unfinished=self._unfinished,
            log=process.component_log("sessions"),
            now=now,
            cluster_name=cache.cluster_name,
            host_id=host_id,
            hostname=process.config.nodename,
        )
        users_log = process.component_log("users")
        self._users = DatabaseUsers(
            Journal(paths.database_users_dir(process.data_dir), users_log),
            servers,
            ADMINISTRATORS,
            self._registry.get,
            keeping.emit,
            users_log,
        )
        self._leases = Leases(member.client, process.component_log("leases"))
        self._shared = Shared(
            gate=Gate(cache, host_id, now),
            keeping=keeping,
            servers=servers,
            users=self._users,
            reviews=self._reviews,
            leases=self._leases,
            current=self._registry.get,
        )
        self._context: ssl.SSLContext | None = None
        self._links = Links(
            process, member, ["db"], _no_socket, self._forget_announcement, self._serve_stream, bare=True
        )

    async def start(self) -> None:
        """Raises AccessError when it cannot serve."""
        self._recorder.start()
        await self._unfinished.start()
        await self._registry.start()
        self._users.start(self._forget_announcement)
        self._leases.start()
        self._reviews.start()
        self._health.start()
        self._links.changed("")
        self._unsubscribe = self._member.cache.on_change(self._changed)
        self._member.on_identity_change(lambda _: self._forget_context())
        self._member.start_telling(self.announcement, self._announce)
        self._process.metrics.gauge_of(
            "db_connections", "Connections to databases being served", lambda: len(self._connections)
        )

    def announcement(self) -> Announcement:
        """This service as the cluster should know it; the same object until something changes."""
        if self._announcement is None:
            host_id, hostname = self._member.identity.host_id, self._process.config.nodename
            service = DatabaseService(
                metadata=Metadata(name=host_id),
                spec=DatabaseServiceSpec(
                    resources=self._process.config.db_service.matchers, hostname=hostname, version=VERSION
                ),
            )
            told = [(database, self._health.of(name)) for name, database in self._registry.all.items()]
            # The Auth Service signs for databases that are announced. No user gets to these.
            told += [(database, _ENDING) for database in self._users.unserved.values()]
            servers = tuple(
                DatabaseServer(
                    metadata=Metadata(name=database.name),
                    sub_kind=host_id,
                    spec=DatabaseServerSpec(
                        version=VERSION,
                        hostname=hostname,
                        host_id=host_id,
                        database=database,
                        proxy_ids=self._links.proxy_ids,
                        target_health=health,
                    ),
                )
                for database, health in told
            )
            self._announcement = (service, servers)
        return self._announcement

    async def _announce(self, told: Announcement) -> None:
        service, servers = told
        names = {server.name for server in servers}
        forget = sorted(self._told - names)
        # Also those that an announcement told of which failed half way.
        self._told |= names
        for start in range(0, max(len(servers), len(forget), 1), ANNOUNCED_AT_ONCE):
            await self._member.client.call(
                AnnounceDatabases(
                    service=service,
                    servers=list(servers[start : start + ANNOUNCED_AT_ONCE]),
                    forget=forget[start : start + ANNOUNCED_AT_ONCE],
                    ttl_s=membership_limits.HEARTBEAT_TTL_S,
                ),
                deadline_s=limits.ANNOUNCE_CALL_S,
            )
        self._told = names

    # What a service's process asks of it.

    async def reload(self) -> None:
        """Databases of the file are read at the start; those of the cluster follow by themselves."""

    async def drain(self, timeout_s: float) -> None:
        self._accepting = False
        await self._links.stop_accepting()
        if self._connections:
            await asyncio.wait(set(self._connections), timeout=timeout_s)

    async def close(self) -> None:
        self._accepting = False
        self._unsubscribe()
        await self._health.close()
        for task in self._connections:
            task.cancel()
        await asyncio.gather(*self._connections, return_exceptions=True)
        await self._users.close()
        await self._leases.close()
        await self._reviews.close()
        await self._links.close()
        await self._registry.close()
        await self._recorder.close()
        await self._member.close()

    # Streams in.

    async def _serve_stream(self, client: Stream, header: DialHeader) -> bool:
        """Serves a user's stream to its end. Raises AccessError to refuse it."""
        if header.service != "db":
            raise NotFoundError(f"service {header.service!r} is not served here")
        host, port = split_host_port(header.client_addr)
        if not host or not port:
            raise InputError("the proxy gave no client address")
        if not self._accepting:
            raise LimitExceededError("this agent takes no connections to databases now")
        task = asyncio.current_task()
        assert task is not None
        self._connections.add(task)
        try:
            await self._serve(client, header)
        finally:
            self._connections.discard(task)
        return True

    async def _serve(self, client: Stream, header: DialHeader) -> None:
        try:
            async with self._strangers.place(split_host_port(header.client_addr)[0], limits.TLS_S):
                await accept_tls_on(client, self._tls_context(), deadline_s=limits.TLS_S)
        except (AccessError, TimeoutError) as problem:
            self._log.debug("a connection was refused: %s", problem, extra={"addr": header.client_addr})
            client.abort()
            return
        self._known += 1
        try:
            if self._known > limits.CONNECTIONS:
                raise LimitExceededError("too many connections to databases at this agent")
            await self._serve_client(client, header)
        except AccessError as problem:
            self._log.info(
                "a connection was refused: %s",
                problem,
                extra={"addr": header.client_addr, "detail": problem.detail},
            )
        finally:
            self._known -= 1
            client.abort()

    async def _serve_client(self, client: Stream, header: DialHeader) -> None:
        """Who is there, what for, and then the protocol."""
        der = client.peer_der
        assert der is not None  # the handshake demands one
        identity = self._shared.gate.verify(der)
        route = identity.route_to_database
        if identity.kind is not PeerKind.USER or route is None:
            raise DeniedError(
                "only certificates for a database are taken here", detail="`tsh db login` makes one"
            )
        database = self._database(route, header)
        refusal = None
        if database is None:
            # Whether there is a database of that name is not told.
            text = f"access to database {header.target} denied"
            refusal = DeniedError(text, reasons=(_why_not(route, header),))
            protocol = GREETED if header.greeted_as else route.protocol
            database = Database(
                metadata=Metadata(name=header.target), spec=DatabaseSpec(protocol=protocol, uri="")
            )
        elif self._of_user[identity.name] >= limits.CONNECTIONS_OF_USER:
            text = f"you have {limits.CONNECTIONS_OF_USER} connections to databases of this agent"
            refusal = DeniedError(text, reasons=("too many connections of one user",))
        engine = self._engines.get(database.spec.protocol)
        if engine is None:
            raise NotFoundError(f"protocol {database.spec.protocol!r} is not served here")
        session = DbSession(
            self._shared, identity, der, database, header.client_addr, refusal, header.greeted_as
        )
        self._of_user[identity.name] += 1
        try:
            await session.serve(engine, client)
        finally:
            self._of_user[identity.name] -= 1
            if not self._of_user[identity.name]:
                del self._of_user[identity.name]

    def _database(self, route: RouteToDatabase, header: DialHeader) -> Database | None:
        """The database that both the connection and the certificate are for: the name in the host name that
        the client asked the proxy for decides nothing by itself."""
        database = self._registry.get(header.target)
        if database is None or (route.service, route.protocol) != (header.target, database.spec.protocol):
            return None
        if header.greeted_as and database.spec.protocol != GREETED:
            return None
        return database

    def _tls_context(self) -> ssl.SSLContext:
        if self._context is None:
            identity, trust = self._member.identity, self._member.cache.trust
            self._context = server_context(
                cert_pem=identity.tls_cert,
                key_pem=identity.tls_private_pem,
                client_roots_pem=trust.tls_roots_pem("user"),
                require_client_cert=True,
                alpn=_ALPN,
            )
        return self._context

    # Changes.

    def _changed(self, kind: str) -> None:
        self._reviews.changed(kind)
        self._registry.changed(kind)
        self._links.changed(kind)
        if kind == "cert_authority":
            self._forget_context()

    def _health_configs(self) -> list[HealthCheckConfig]:
        found = self._member.cache.resources("health_check_config")
        return [config for config in found if isinstance(config, HealthCheckConfig)]

    def _databases_changed(self) -> None:
        self._forget_announcement()
        self._reviews.changed("db")  # the labels may be others

    def _forget_announcement(self) -> None:
        self._announcement = None

    def _forget_context(self) -> None:
        self._context = None


async def _no_socket(sock: socket.socket, header: DialHeader) -> None:
    """Streams are served as they come; none is handed over as a socket."""
    sock.close()
    raise NotFoundError(f"service {header.service!r} is not served here")


def _why_not(route: RouteToDatabase, header: DialHeader) -> str:
    if route.service != header.target:
        return f"the certificate is for database {route.service}"
    if header.greeted_as and route.protocol != GREETED:
        return f"the client speaks MySQL, the certificate is for {route.protocol}"
    return "no such database is served here"


async def start(process: Process, engines: Sequence[Engine] | None = None) -> DbServer:
    """Join the cluster and serve; by default every protocol there is."""
    member = await Member.start(process, SystemRole.DB, watch=_WATCHED)
    try:
        service = DbServer(process, member, built_in() if engines is None else engines)
        await service.start()
    except BaseException:
        await member.close()
        raise
    return service
