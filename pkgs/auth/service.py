"""The Auth Service put together: storage, authorities, handlers, listeners, and what runs beside them."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import shutil
import ssl
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from pathlib import Path

from pkgs.auth import limits
from pkgs.auth.accesslists.calls import AccessListHandlers
from pkgs.auth.accounts.attempts import AttemptLog
from pkgs.auth.accounts.codes import CodeCheck
from pkgs.auth.accounts.credentials import Accounts
from pkgs.auth.accounts.login import LoginHandler
from pkgs.auth.accounts.passwords import PasswordPool
from pkgs.auth.accounts.signup import SignupHandlers
from pkgs.auth.audit.calls import AuditHandlers
from pkgs.auth.audit.journal import Journal
from pkgs.auth.audit.keeping import Keeping
from pkgs.auth.audit.log import AuditLog
from pkgs.auth.audit.misplaced import Misplaced
from pkgs.auth.audit.recordings import RecordingHandlers
from pkgs.auth.audit.screens import Screens
from pkgs.auth.audit.searching import SearchHandlers
from pkgs.auth.backend.interface import Backend
from pkgs.auth.backend.sqlite import SqliteBackend
from pkgs.auth.backend.tinydb import TinyDbBackend
from pkgs.auth.bots.machines import MachineHandlers
from pkgs.auth.bots.manage import BotHandlers
from pkgs.auth.databases.calls import DatabaseHandlers
from pkgs.auth.encryption.calls import EncryptionHandlers
from pkgs.auth.encryption.keyring import Keyring, ensure_keys
from pkgs.auth.explaining import ExplainHandlers
from pkgs.auth.gate import Gate
from pkgs.auth.headless.calls import HeadlessHandlers
from pkgs.auth.issuing.authorities import Authorities
from pkgs.auth.issuing.hosts import Hosts
from pkgs.auth.issuing.impersonating import ImpersonationHandlers
from pkgs.auth.issuing.issue import UserIssuer
from pkgs.auth.issuing.join import JoinHandlers
from pkgs.auth.issuing.signing import SigningHandlers
from pkgs.auth.openssh.calls import OpensshHandlers
from pkgs.auth.openssh.servers import OpensshServers
from pkgs.auth.permissions import Permissions
from pkgs.auth.registry import Handlers, build_registry
from pkgs.auth.requests.calls import RequestHandlers
from pkgs.auth.requests.deciding import DecidingHandlers
from pkgs.auth.requests.pruning import Pruning
from pkgs.auth.resources.calls import ResourceHandlers
from pkgs.auth.resources.changes import change_events
from pkgs.auth.resources.inventory import InventoryHandlers
from pkgs.auth.resources.watch import WatchHandler
from pkgs.auth.semaphores.calls import SemaphoreHandlers
from pkgs.auth.semaphores.leases import Leases
from pkgs.auth.sessions.calls import SessionHandlers
from pkgs.auth.sessions.door import Door
from pkgs.auth.sessions.presence import PresenceHandlers
from pkgs.auth.sessions.trackers import Trackers
from pkgs.auth.state.bootstrap import apply_settings, ensure_cluster, keep_settings, static_tokens
from pkgs.auth.state.presets import top_up_presets
from pkgs.auth.state.store import Store
from pkgs.auth.status import StatusHandlers
from pkgs.auth.whole import Whole
from pkgs.common.access.locks import Interaction, matching_lock
from pkgs.common.errors import AccessError
from pkgs.common.membership.identity import host_uuid
from pkgs.common.net.listener import Accepted, HeaderCheck, Listener, bind
from pkgs.common.net.proxyproto.header import PlainHeaderReader
from pkgs.common.net.proxyproto.signed import FOR_AUTH, ProxyVerifier
from pkgs.common.net.sockets import split_host_port
from pkgs.common.net.tls import server_context
from pkgs.common.pki import x509
from pkgs.common.pki.certspec import HostCertSpec
from pkgs.common.pki.identity import Identity, SystemRole
from pkgs.common.pki.keys import new_tls_key
from pkgs.common.resources.kinds import AuthServer, Proxy, ServerSpec
from pkgs.common.resources.metadata import Metadata
from pkgs.common.rpc.calls import Caller
from pkgs.common.rpc.server import RpcServer
from pkgs.common.runtime import paths
from pkgs.common.runtime.config import Config, load_config
from pkgs.common.runtime.process import Process
from pkgs.common.runtime.version import VERSION

_log = logging.getLogger(__name__)
AUDIT_FILE = "audit.db"
SCREENS_FILE = "screens.db"
RUN_DIR = "run-auth"


class AuthService:
    """One running Auth Service. `open` builds it, `serve` opens its ports, `close` ends it."""

    def __init__(self, process: Process) -> None:
        self._process = process
        self._config = process.config
        self._data_dir = process.data_dir
        self._now = process.clock.now
        self._tasks: list[asyncio.Task[None]] = []
        self._writes: set[asyncio.Task[None]] = set()
        self._whole = Whole()
        self._closers: list[Callable[[], Awaitable[None] | None]] = []
        self._listener: Listener | None = None

    async def open(self) -> None:
        """Storage, cluster, handlers. Whatever was opened is closed again when a later step fails."""
        try:
            await self._open_state()
            self._build_handlers()
        except BaseException:
            await self._close_all()
            raise

    async def _open_state(self) -> None:
        self.backend = _open_backend(self._config, self._data_dir, self._now)
        self._closers.append(self.backend.close)
        self.store = Store(self.backend, static_tokens(self._config))
        await self.store.load()
        self._closers.append(self.store.close)
        auth = self._config.auth_service
        cluster = await ensure_cluster(self.store, self.backend, auth.cluster_name)
        self.cluster_name = cluster.spec.cluster_name
        await top_up_presets(self.store, self.backend)
        await keep_settings(self.store)
        await apply_settings(self.store, auth)
        self.authorities = Authorities(self.store, self.cluster_name)
        self._closers.append(self.authorities.close)
        self.audit_log = AuditLog(self._data_dir / AUDIT_FILE)
        self._closers.append(self.audit_log.close)
        await ensure_keys(self.store)
        self.keyring = Keyring(self.store)
        self._closers.append(self.keyring.close)
        self.screens = Screens(self._data_dir / SCREENS_FILE, self.keyring.unwrap)
        self._closers.append(self.screens.close)
        self.host_id = host_uuid(self._data_dir)

    def _build_handlers(self) -> None:
        store, authorities, log = self.store, self.authorities, self.audit_log
        permissions = self.permissions = Permissions(store, self.cluster_name, self._now)
        self._closers.append(permissions.lists.close)
        journal = self.journal = Journal(log, self.cluster_name, self.host_id, self._now)
        self.pruning = Pruning(store, journal)
        accounts, attempts = Accounts(self.backend), AttemptLog(self.backend)
        codes = CodeCheck(store, accounts, attempts)
        trackers, door = Trackers(self._now), Door(permissions, self.cluster_name)
        logins, invites, headless = (Gate(limits.GUESSES_PER_MINUTE, limits.GUESSES_BURST) for _ in range(3))
        joins = Gate(limits.JOINS_PER_MINUTE, limits.JOINS_BURST)
        passwords = PasswordPool()
        self._closers.append(passwords.close)
        issuer = self.issuer = UserIssuer(authorities, journal, permissions.check_locks)
        recordings = RecordingHandlers(
            paths.recordings_dir(self._data_dir), log, permissions, journal, self.screens, self.keyring
        )
        login = LoginHandler(store, accounts, attempts, passwords, permissions, issuer, journal, logins)
        self._closers.append(login.close)
        self.handlers = Handlers(
            login=login,
            signup=SignupHandlers(
                store,
                accounts,
                passwords,
                permissions,
                journal,
                invites,
                self.cluster_name,
                self.proxy_addr,
                change_events,
            ),
            signing=SigningHandlers(store, permissions, issuer, authorities, journal, codes),
            join=JoinHandlers(
                store, Hosts(self.backend), authorities, journal, joins, permissions.check_locks
            ),
            inventory=InventoryHandlers(store),
            resources=ResourceHandlers(store, accounts, attempts, permissions, journal, self._enforce_locks),
            watch=WatchHandler(store, permissions),
            audit=AuditHandlers(log, permissions, self.cluster_name, self._now),
            recordings=recordings,
            searching=SearchHandlers(log, self.screens, recordings, journal),
            encryption=EncryptionHandlers(store, permissions, journal, recordings.needing),
            keeping=Keeping(store, log, recordings, permissions, journal, self._now),
            status=StatusHandlers(authorities, permissions),
            explaining=ExplainHandlers(store, permissions, self.cluster_name),
            impersonation=ImpersonationHandlers(store, permissions, issuer, journal),
            bots=BotHandlers(store, permissions, journal),
            machines=MachineHandlers(store, permissions, issuer, journal, joins, self._enforce_locks),
            lists=AccessListHandlers(store, permissions, journal),
            requests=RequestHandlers(store, permissions, journal, self.cluster_name),
            deciding=DecidingHandlers(store, permissions, journal),
            sessions=SessionHandlers(trackers, permissions, journal, door),
            presence=PresenceHandlers(trackers, door, codes, journal),
            headless=HeadlessHandlers(store, codes, permissions, issuer, journal, headless),
            semaphores=SemaphoreHandlers(store, Leases(self.backend), permissions, authorities),
            openssh=OpensshHandlers(store, Hosts(self.backend), permissions, authorities, journal),
            databases=DatabaseHandlers(store, permissions, authorities, journal),
            openssh_servers=OpensshServers(store, Hosts(self.backend)),
        )
        metrics = self._process.metrics
        calls = metrics.counter("auth_calls_total", "Calls answered.", labels=("method", "outcome"))
        seconds = metrics.histogram("auth_call_seconds", "Time a call took.")

        def observe(method: str, outcome: str, took: float) -> None:
            calls.inc(1, method=method, outcome=outcome)
            seconds.observe(took)

        self.rpc = RpcServer(
            build_registry(self.handlers, permissions, observe, self._whole),
            identify=self.identify,
            on_misplaced=Misplaced(self.journal, self._writes).refused,
            log=self._process.component_log("rpc"),
        )
        metrics.gauge_of(
            "auth_connections", "Open connections of the Auth API.", lambda: self.rpc.connections
        )

    def identify(self, der: bytes | None) -> Identity | None:
        """Who a TLS client is; the only way from a certificate to a caller."""
        if der is None:
            return None
        return x509.verify_peer(der, trust=self.authorities.trust, now=self._now())

    async def serve(self) -> None:
        """Open the ports; whoever connects is answered from now on."""
        try:
            await self._serve()
        except BaseException:
            await self.close()
            raise

    async def _serve(self) -> None:
        self._context = self._new_context()
        self.authorities.on_change(self._renew_context)
        run_dir = self._data_dir / RUN_DIR
        # Left by a process that was killed; the backend's lock says that it is gone.
        shutil.rmtree(run_dir, ignore_errors=True)
        run_dir.mkdir(mode=0o700)
        await self.handlers.recordings.recover()
        await self.rpc.start(run_dir)
        self._listener = Listener(
            bind(self._config.auth_service.listen_addr),
            self._on_connection,
            verify_proxy=self._header_check(),
            log=self._process.component_log("listener"),
        )
        self._listener.start()
        await self.rpc.listen_unix(paths.auth_socket(self._data_dir))
        self._tasks.append(asyncio.create_task(self._upkeep()))
        self._process.log.info(
            "serving cluster %s on %s", self.cluster_name, ", ".join(self._listener.addresses)
        )

    def _header_check(self) -> HeaderCheck:
        """Behind a load balancer (`proxy_protocol: on`) its header is demanded; otherwise only one that a
        proxy of this cluster signed is believed."""
        if self._config.auth_service.proxy_protocol == "on":
            return PlainHeaderReader()
        return ProxyVerifier(lambda: self.authorities.trust, self._now, audience=FOR_AUTH)

    @property
    def addresses(self) -> list[str]:
        return list(self._listener.addresses) if self._listener is not None else []

    async def _on_connection(self, accepted: Accepted) -> None:
        await self.rpc.serve_tls_socket(accepted.sock, self._context, accepted.remote_ip)

    def _new_context(self) -> ssl.SSLContext:
        """A certificate of our own as the cluster's Auth Service; its key lives in memory only."""
        key = new_tls_key()
        now = self._now()
        spec = HostCertSpec(
            host_id=self.host_id,
            node_name=self._config.nodename,
            cluster=self.cluster_name,
            system_roles=(SystemRole.AUTH,),
            additional_principals=tuple(
                split_host_port(addr, 0)[0] for addr in self._config.auth_service.public_addrs
            ),
            valid_after=now - limits.BACKDATE_S,
            valid_before=now + limits.HOST_CERT_TTL_S,
        )
        cert = x509.sign_host_tls(self.authorities.host_tls, spec, key.public_pem)
        self._context_until = now + limits.HOST_CERT_TTL_S / 2
        return server_context(
            cert_pem=cert,
            key_pem=key.private_pem,
            client_roots_pem=self.authorities.trust.tls_roots_pem("user", "host"),
            alpn=(f"teleport-auth@{self.cluster_name}", "teleport-auth@"),
        )

    def _renew_context(self) -> None:
        """For connections from now on; those that exist keep what they were made with."""
        try:
            self._context = self._new_context()
        except AccessError as error:
            _log.error("the TLS certificate was not renewed: %s", error)

    async def _upkeep(self) -> None:
        """Sweep what expired, show ourselves in the inventory, keep our certificate fresh."""
        component = self._process.readiness.component("storage")
        while True:
            try:
                await self.pruning.run()
                await self.handlers.keeping.retain()
                await self.backend.sweep()
                await self._beat()
                if self._now() > self._context_until:
                    self._renew_context()
                component.ok()
            except AccessError as error:
                component.degraded(error.message)
                _log.error("upkeep failed: %s", error, extra={"detail": error.detail})
            except Exception:
                # A fault of ours in one round must not end what keeps our own certificate from expiring.
                component.degraded("upkeep failed")
                _log.exception("upkeep failed")
            await asyncio.sleep(limits.SWEEP_EVERY_S)

    async def _beat(self) -> None:
        current = self.store.get("auth_server", self.host_id)
        expires = current.metadata.expires if current is not None else None
        if expires is not None and expires.timestamp() > self._now() + limits.AUTH_SERVER_TTL_S / 2:
            return
        await self.store.put(
            AuthServer(
                metadata=Metadata(
                    name=self.host_id,
                    expires=datetime.fromtimestamp(int(self._now() + limits.AUTH_SERVER_TTL_S), UTC),
                ),
                spec=ServerSpec(
                    hostname=self._config.nodename,
                    addr=self.addresses[0] if self.addresses else "",
                    public_addrs=list(self._config.auth_service.public_addrs),
                    version=VERSION,
                ),
            )
        )

    def _enforce_locks(self) -> None:
        """End the connections of those who are locked now."""
        locks, now = self.permissions.locks(), self._now()

        def is_locked(caller: Caller) -> bool:
            identity = caller.identity
            return identity is not None and matching_lock(locks, Interaction(identity), now) is not None

        dropped = self.rpc.drop(is_locked)
        if dropped:
            _log.info("a lock ended %d connections", dropped)

    def proxy_addr(self) -> str:
        """`host:port` for links: the first proxy that tells a public address, or what the file says."""
        for proxy in self.store.all("proxy"):
            if isinstance(proxy, Proxy) and proxy.spec.public_addrs:
                return proxy.spec.public_addrs[0]
        section = self._config.proxy_service
        if section.enabled and section.public_addrs:
            return section.public_addrs[0]
        port = split_host_port(section.web_listen_addr, 3080)[1] if section.enabled else 3080
        return f"{self._config.nodename}:{port}"

    async def reload(self) -> None:
        """Take settings and static tokens from the file anew."""
        if not self._config.source:
            return
        config = load_config(self._config.source)
        tokens = static_tokens(config)
        await apply_settings(self.store, config.auth_service)
        self.store.set_static(tokens)

    async def drain(self, timeout_s: float) -> None:
        if self._listener is not None:
            self._listener.stop_accepting()
        await self.rpc.drain(timeout_s)

    async def close(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._tasks.clear()
        await self.rpc.close()
        await self._whole.finish(limits.LAST_CALLS_S)
        await asyncio.gather(*self._writes)
        if self._listener is not None:
            await self._listener.close()
        with contextlib.suppress(FileNotFoundError):
            paths.auth_socket(self._data_dir).unlink()
        shutil.rmtree(self._data_dir / RUN_DIR, ignore_errors=True)
        await self._close_all()

    async def _close_all(self) -> None:
        while self._closers:
            closing = self._closers.pop()()
            if closing is not None:
                await closing


def _open_backend(config: Config, data_dir: Path, clock: Callable[[], float]) -> Backend:
    storage = config.teleport.storage
    directory = Path(storage.path) if storage.path else paths.backend_dir(data_dir)
    if storage.type == "tinydb":
        return TinyDbBackend(directory, clock=clock)
    return SqliteBackend(directory, clock=clock, synchronous=storage.sync, journal=storage.journal or "WAL")


async def start(process: Process) -> AuthService:
    """For `service_main`: an Auth Service that answers."""
    service = AuthService(process)
    await service.open()
    await service.serve()
    return service
