"""The Proxy Service put together, and its life: start, reload, drain, close."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
from collections.abc import Coroutine, Sequence

from aiohttp import web

from pkgs.common.access.locks import Interaction, lock_reason, lock_text, matching_lock
from pkgs.common.errors import AccessError, LockedError, TrustError
from pkgs.common.membership.identity import HostIdentity
from pkgs.common.membership.member import Member
from pkgs.common.membership.reviews import Reviews
from pkgs.common.membership.route import route_of
from pkgs.common.net.penalties import Penalties
from pkgs.common.net.proxyproto.signed import HeaderSigner
from pkgs.common.pki.identity import Identity, SystemRole
from pkgs.common.pki.x509 import verify_peer
from pkgs.common.resources.durations import parse_duration
from pkgs.common.resources.kinds import Lock, Proxy, ServerSpec
from pkgs.common.resources.metadata import Metadata
from pkgs.common.rpc.limits import ServerLimits
from pkgs.common.rpc.registry import Registry
from pkgs.common.rpc.server import RpcServer
from pkgs.common.runtime.process import Process
from pkgs.common.runtime.version import VERSION
from pkgs.proxy import addresses, limits
from pkgs.proxy.authrelay import AuthRelay
from pkgs.proxy.certificates import OwnContexts, WebCertificates
from pkgs.proxy.connections.connector import Connector
from pkgs.proxy.connections.databases import DatabaseDoor
from pkgs.proxy.connections.dialgate import DialGate
from pkgs.proxy.connections.mysql import MysqlDoor
from pkgs.proxy.connections.tunnels import Tunnels
from pkgs.proxy.ports import Ports
from pkgs.proxy.router import Router, SshDoor
from pkgs.proxy.sshgate.gate import SshGate
from pkgs.proxy.terminate.service import Terminator
from pkgs.proxy.web.api import ROUTES, Addresses, WebApi
from pkgs.proxy.web.pages import PAGE_ROUTES, WebPages
from pkgs.proxy.web.server import WebServer


class _GateOnDemand:
    """The SSH gate, started when it is first needed: it keeps a process of its own."""

    def __init__(self, gate: SshGate, log: logging.Logger) -> None:
        self._gate = gate
        self._log = log
        self._starting = asyncio.Lock()
        self._started = False

    async def start(self) -> None:
        async with self._starting:
            if not self._started:
                await self._gate.start()
                self._started = True

    async def serve(self, sock: socket.socket, remote_addr: str) -> None:
        try:
            await self.start()
        except AccessError as exc:
            self._log.error("the SSH gate does not start: %s", exc, extra={"detail": exc.detail})
            sock.close()
            return
        except BaseException:
            sock.close()
            raise
        await self._gate.serve(sock, remote_addr)

    async def close(self) -> None:
        if self._started:
            await self._gate.close()


class ProxyService:
    """Made by `start_proxy`; what its process then reloads, drains and closes."""

    def __init__(self, process: Process, member: Member, auth_addrs: Sequence[str]) -> None:
        self._process = process
        self._config = process.config
        self.clock = process.clock
        self._member = member
        self._log = process.log
        self._auth_addrs = tuple(auth_addrs)
        self._tasks: list[asyncio.Task[None]] = []
        self._router: Router | None = None
        self._gate: _GateOnDemand | None = None
        self._contexts = OwnContexts.of(member.identity, member.cache.trust)
        self._signer = self._make_signer(member.identity)
        self._web_certificates = WebCertificates(
            process.config.proxy_service.keypairs, process.component_log("web")
        )
        self._web_certificates.reload()
        self._web_certificates.use_identity(member.identity)
        self._ports = Ports(process.config, process.component_log("listener"))
        self._policy = addresses.dial_policy((), ())
        self.tunnels = Tunnels(process.component_log("tunnel"))
        self.connector = Connector(
            cache=member.cache,
            tunnels=self.tunnels,
            emitter=member.emitter,
            signer=lambda: self._signer,
            policy=lambda: self._policy,
            terminate=lambda node, client_addr: self._terminator.connect(node, client_addr),
            host_id=member.identity.host_id,
            clock=process.clock,
            log=process.component_log("dial"),
        )
        self._reviews = Reviews(process.component_log("dial"), process.clock.monotonic, limits.REVIEW_EVERY_S)
        self._terminator = Terminator(
            member,
            self.connector,
            process.data_dir / "proxy-sessions",
            process.clock,
            self._reviews,
            process.component_log("sessions"),
            allow_ctr="aes256-ctr" in process.config.teleport.ciphers,
        )
        registry = Registry()
        self.tunnels.register(registry)
        self._rpc = RpcServer(
            registry,
            identify=self._identify,
            limits=ServerLimits(ping_after_s=limits.TUNNEL_PING_S, idle_close_s=limits.TUNNEL_SILENT_S),
            log=process.component_log("tunnel.rpc"),
        )
        self._web = self._make_web()

    async def start(self, ssh: SshDoor | None = None) -> None:
        """Open everything. `ssh` stands in for the SSH gate in tests."""
        if ssh is None:
            ssh = self._gate = self._make_gate()
            if self._config.proxy_service.listen_addr:
                await self._gate.start()
        own_names = addresses.own_names(self._config)
        databases = DatabaseDoor(
            cache=self._member.cache, tunnels=self.tunnels, log=self._process.component_log("databases")
        )
        mysql = MysqlDoor(
            databases=databases,
            own_names=own_names,
            context=lambda: self._contexts.mysql,
            version=self._config.proxy_service.mysql_server_version,
            log=self._process.component_log("mysql"),
        )
        self._reviews.start()
        await self._terminator.start()
        await self._rpc.start(self._process.data_dir)
        await self._web.start()
        self._router = router = Router(
            contexts=lambda: self._contexts,
            web_certificates=self._web_certificates,
            web=self._web,
            auth=AuthRelay(
                addresses=lambda: self._auth_addrs,
                signer=lambda: self._signer,
                cluster=lambda: self._member.cache.cluster_name,
                clock=self._process.clock,
                log=self._process.component_log("authrelay"),
            ),
            dial=DialGate(
                connector=self.connector,
                context=lambda: self._contexts.dial,
                verify=self._holder,
                still_trusts=self._still_trusts,
                reviews=self._reviews,
                log=self._process.component_log("dial"),
            ),
            tunnels=self.tunnels,
            rpc=self._rpc,
            ssh=ssh,
            databases=databases,
            mysql=mysql,
            own_names=own_names,
            verify=self.verify,
            log=self._process.component_log("router"),
        )
        self._ports.open(router, mysql.greet)
        self._policy = addresses.dial_policy(self._ports.addresses, self._auth_addrs)
        self._ports.start()
        self._member.on_identity_change(self._renewed)
        self._member.cache.on_change(self._changed)
        self._member.start_heartbeat(self.describe)
        self._keep_doing(self._watch_tunnels(), "watch the tunnels")
        interval_s = parse_duration(self._config.proxy_service.https_keypairs_reload_interval)
        if interval_s > 0 and self._web_certificates.from_files:
            self._keep_doing(
                self._watch_files(max(interval_s, limits.RELOAD_CHECK_S)), "watch the certificate files"
            )
        self._add_metrics()

    # --- parts

    def _make_gate(self) -> _GateOnDemand:
        log = self._process.component_log("ssh")
        allow_ctr = "aes256-ctr" in self._config.teleport.ciphers
        return _GateOnDemand(
            SshGate(
                self._member, self.connector, self.clock, log, reviews=self._reviews, allow_ctr=allow_ctr
            ),
            log,
        )

    def _make_web(self) -> WebServer:
        log = self._process.component_log("web")
        api = WebApi(
            client=self._member.client, cache=self._member.cache, addresses=lambda: self.shown_addresses
        )
        app = web.Application(client_max_size=limits.BODY_MAX)
        api.add_routes(app)
        WebPages(api=api, cache=self._member.cache).add_routes(app)
        return WebServer(
            app,
            routes=ROUTES | PAGE_ROUTES,
            trust_forwarded=self._config.proxy_service.trust_x_forwarded_for,
            penalties=Penalties(),
            log=log,
        )

    @property
    def connections(self) -> int:
        """Connections to the public ports."""
        return self._ports.connections

    @property
    def shown_addresses(self) -> Addresses:
        """Where this proxy listens, as clients are told."""
        return self._ports.shown

    def describe(self) -> Proxy:
        """This proxy as the cluster shall know it."""
        web_addr = self.shown_addresses.web_listen
        reached = addresses.advertised(self._config, web_addr)
        public = addresses.with_port(self._config.proxy_service.public_addrs, web_addr)
        return Proxy(
            metadata=Metadata(name=self._member.identity.host_id),
            spec=ServerSpec(
                hostname=self._config.nodename,
                addr=reached,
                public_addrs=public or [reached],
                version=VERSION,
            ),
        )

    def verify(self, der: bytes, source_addr: str) -> Identity:
        """Who the holder of a certificate is, seen from this address; a locked one is refused."""
        identity = verify_peer(
            der, trust=self._member.cache.trust, now=self._process.clock.now(), source_addr=source_addr
        )
        self._check_lock(identity)
        return identity

    def _identify(self, der: bytes | None) -> Identity | None:
        if der is None:
            raise TrustError("a host certificate is needed here")
        identity = self._holder(der)
        self._check_lock(identity)
        return identity

    def _check_lock(self, identity: Identity) -> None:
        """An agent that is locked has no tunnel here (attack A14)."""
        if (lock := self._lock_of(identity)) is not None:
            raise LockedError(lock_text(lock), detail=lock_reason(lock))

    def _lock_of(self, identity: Identity) -> Lock | None:
        return matching_lock(self._member.cache.locks, Interaction(identity), self._process.clock.now())

    def _still_trusts(self, der: bytes, identity: Identity) -> bool:
        """Whether the authority of a certificate in use is trusted now; its time alone does not matter."""
        when = min(self._process.clock.now(), identity.expires_at - 1.0)
        try:
            verify_peer(der, trust=self._member.cache.trust, now=when)
        except AccessError:
            return False
        return True

    def _holder(self, der: bytes) -> Identity:
        """The same, wherever it is used from; for those who check the address themselves."""
        return verify_peer(der, trust=self._member.cache.trust, now=self._process.clock.now())

    def _make_signer(self, identity: HostIdentity) -> HeaderSigner:
        return HeaderSigner(
            cert_pem=identity.tls_cert, key_pem=identity.tls_private_pem, cluster=identity.cluster_name
        )

    # --- what changes while we run

    def _renewed(self, identity: HostIdentity) -> None:
        self._signer = self._make_signer(identity)
        self._web_certificates.use_identity(identity)
        self._contexts = OwnContexts.of(identity, self._member.cache.trust)

    def _changed(self, kind: str) -> None:
        if kind == "cert_authority":
            self._contexts = OwnContexts.of(self._member.identity, self._member.cache.trust)
        if kind == "lock":
            self._rpc.drop(
                lambda caller: caller.identity is not None and self._lock_of(caller.identity) is not None
            )
        if kind not in ("node", "db_server"):  # every heartbeat of an agent is one
            self._reviews.changed(kind)

    def _keep_doing(self, what: Coroutine[None, None, None], name: str) -> None:
        """Run until `close`. Should it fail, that is in the log at once and not only at the end."""

        def ended(task: asyncio.Task[None]) -> None:
            if not task.cancelled() and (failure := task.exception()) is not None:
                self._log.error("no longer done: %s", name, exc_info=failure)

        task = asyncio.create_task(what, name=name)
        task.add_done_callback(ended)
        self._tasks.append(task)

    async def _watch_tunnels(self) -> None:
        """A tunnel that takes nothing any more is ended, so that nobody waits for it."""
        while True:
            await asyncio.sleep(limits.TUNNEL_PING_S)
            for caller in self.tunnels.stalled():
                self._log.warning("a tunnel is dead", extra={"host_id": caller.host().host_id})
                self._rpc.drop(lambda other, dead=caller: other is dead)  # type: ignore[misc]

    async def _watch_files(self, interval_s: float) -> None:
        while True:
            await asyncio.sleep(interval_s)
            try:
                if self._web_certificates.reload():
                    self._log.info("web certificates reloaded")
            except AccessError as exc:
                self._log.error("web certificates not reloaded, the old ones stay: %s", exc)

    def _add_metrics(self) -> None:
        metrics = self._process.metrics
        metrics.gauge_of("proxy_tunnels", "Agents connected to this proxy.", lambda: self.tunnels.hosts)
        metrics.gauge_of(
            "proxy_spare_connections", "Data connections kept ready.", lambda: self.tunnels.spares
        )
        metrics.gauge_of(
            "proxy_connections",
            "Connections to the public ports.",
            lambda: self.connections,
        )

    # --- life

    async def reload(self) -> None:
        """Take up changed certificate files. Raises AccessError, leaving everything as it was."""
        self._web_certificates.reload()

    async def drain(self, timeout_s: float) -> None:
        """Accept nothing more, send the agents elsewhere, and wait for open streams."""
        self._ports.stop_accepting()
        self.tunnels.drain()
        left = await self._router.drain(timeout_s) if self._router is not None else 0
        if left:
            self._log.warning("users' streams are cut", extra={"streams": left})

    async def close(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self.tunnels.drain()
        self._ports.stop_accepting()
        # Answers that are being given get a second; everything else is cut.
        await self._web.close()
        await self._reviews.close()
        await self._ports.close()
        if self._gate is not None:
            await self._gate.close()
        await self._terminator.close()
        with contextlib.suppress(AccessError):
            await self._rpc.close()
        await self._member.close()


async def start_proxy(process: Process) -> ProxyService:
    """Join, open the ports, tell the cluster. What fails here is one line for the administrator."""
    route = route_of(process.config)
    member = await Member.start(
        process, SystemRole.PROXY, additional_principals=addresses.principals(process.config)
    )
    service = None
    try:
        service = ProxyService(process, member, () if route.by_proxy else route.addrs)
        await service.start()
    except BaseException:
        await (service.close() if service is not None else member.close())
        raise
    return service
