"""The SSH Service: streams in, connections out, and everything that must happen when the cluster changes."""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Callable, Mapping

from pkgs.agents.base.labels import CommandLabels, LabelCommand
from pkgs.agents.base.leases import Leases
from pkgs.agents.base.links import WILDCARDS, Links
from pkgs.agents.base.seal import Sealer
from pkgs.agents.ssh.bounds.groups import Bounds, prepare
from pkgs.agents.ssh.bounds.memory import protect_service
from pkgs.agents.ssh.bounds.processes import processes_of_one_user
from pkgs.agents.ssh.connection import Shared, SshConnection
from pkgs.agents.ssh.hostkeys import HostKeys
from pkgs.agents.ssh.hostusers.keeper import HostUsers
from pkgs.agents.ssh.hostusers.static import StaticUsers
from pkgs.agents.ssh.hostusers.tools import SystemTools
from pkgs.agents.ssh.messages import FromProcess
from pkgs.agents.ssh.pamfacts import PamFacts
from pkgs.agents.ssh.records.book import Book
from pkgs.agents.ssh.resume.arrivals import FromListener, FromTunnel
from pkgs.agents.ssh.resume.desk import Desk, Guest
from pkgs.agents.ssh.together.trackers import Reporter
from pkgs.common.access.matching.labels import labels_of
from pkgs.common.api.tunnel import DialHeader
from pkgs.common.errors import AccessError, InputError, NotFoundError
from pkgs.common.membership.cache import KINDS_HOST
from pkgs.common.membership.member import Member
from pkgs.common.membership.reviews import Reviews
from pkgs.common.net.dial import split_host_port
from pkgs.common.net.listener import Accepted, Listener, bind
from pkgs.common.net.proxyproto.signed import ProxyVerifier
from pkgs.common.net.stream import Stream
from pkgs.common.pki.identity import SystemRole
from pkgs.common.resources.durations import parse_duration
from pkgs.common.resources.kinds import Node, ServerSpec, StaticHostUser
from pkgs.common.resources.metadata import Metadata
from pkgs.common.runtime import paths
from pkgs.common.runtime.config import Config
from pkgs.common.runtime.process import Process
from pkgs.common.runtime.version import VERSION
from pkgs.common.sessions.recordings import Recorder
from pkgs.common.sessions.unfinished import Unfinished
from pkgs.common.ssh.process.messages import Start
from pkgs.common.ssh.process.pool import Pool
from pkgs.common.ssh.service.gate import Gate


class SshService:
    """A running SSH Service."""

    def __init__(self, process: Process, member: Member) -> None:
        config = process.config
        self._process = process
        self._config = config
        self._member = member
        self._log = process.log
        self._now = process.clock.now
        self._node: Node | None = None
        self._labels = CommandLabels(
            [
                LabelCommand(entry.name, tuple(entry.command), entry.period, parse_duration(entry.period))
                for entry in config.ssh_service.commands
            ],
            config.ssh_service.labels,
            self._node_changed,
            process.component_log("labels"),
        )
        self._keys = HostKeys(member)
        self._recorder = Recorder(
            paths.upload_dir(config.data_dir),
            member.client,
            lambda: member.cache.recording_config.spec.mode,
            lambda: member.cache.recording_config.recipients,
            Sealer(member).seal,
            process.clock.monotonic,
            process.component_log("recordings"),
        )
        self._unfinished = Unfinished(
            paths.open_sessions_dir(config.data_dir),
            member.emitter,
            self._now,
            process.component_log("sessions"),
        )
        self._reviews = Reviews(process.component_log("sessions"), process.clock.monotonic)
        self._leases = Leases(member.client, process.component_log("leases"))
        makes_accounts = os.geteuid() == 0 and not config.ssh_service.disable_create_host_user
        self._host_users = (
            HostUsers(SystemTools(paths.host_users_dir(config.data_dir)), process.component_log("host users"))
            if makes_accounts
            else None
        )
        self._book = Book(process.component_log("records"), self._now)
        self._static_users = (
            StaticUsers(self._host_users, self._static_desired, process.component_log("host users"))
            if self._host_users is not None
            else None
        )
        self._shared = Shared(
            gate=Gate(
                member.cache,
                self.node,
                self._now,
                file_copy=config.ssh_service.ssh_file_copy,
                port_forwarding=config.ssh_service.port_forwarding,
                takes_relayed=True,
                own_folder=os.path.realpath(config.data_dir),
                displays=config.ssh_service.x11.numbers,
            ),
            emitter=member.emitter,
            recorder=self._recorder,
            unfinished=self._unfinished,
            proxy_addr=self._proxy_addr,
            permit_user_env=config.ssh_service.permit_user_env,
            single_user=os.geteuid() != 0,
            log=process.component_log("sessions"),
            leases=self._leases,
            host_users=self._host_users,
            book=self._book,
            pam=PamFacts(config.ssh_service.pam.service_name, config.ssh_service.pam.environment)
            if config.ssh_service.pam.enabled and os.geteuid() == 0
            else PamFacts(),
            max_processes=processes_of_one_user(config.ssh_service.session_processes),
        )
        self._reporter = Reporter(self._shared.table, member.client, process.component_log("sessions"))
        protect_service()
        self._groups = prepare(
            Bounds(config.ssh_service.session_memory_bytes, config.ssh_service.session_processes),
            process.component_log("ssh"),
        )
        self._pool = Pool(
            "pkgs.agents.ssh.session.child",
            self._new_connection,
            FromProcess,
            self._keys.offered,
            self._keys.sign,
            process.component_log("ssh"),
            allow_ctr="aes256-ctr" in config.teleport.ciphers,
            places=self._groups,
        )
        self._links = Links(
            process,
            member,
            ["ssh"],
            self._serve_tunnel,
            self._node_changed,
            self._divert_tunnel,
            used=uses_tunnels(config),
        )
        self._desk = Desk(self._begin, lambda: member.identity.host_id, process.component_log("resumption"))
        self._listener: Listener | None = None

    async def start(self) -> None:
        """Raises AccessError when it cannot serve."""
        self._recorder.start()
        self._leases.start()
        if self._host_users is not None:
            await self._host_users.start()
        await self._unfinished.start()
        await asyncio.gather(self._pool.start(), self._labels.start())
        if not self._links.used or self._config.ssh_service.force_listen:
            await self._listen()
        self._reviews.start()
        self._reporter.start()
        if self._static_users is not None:
            self._static_users.start()
        self._settings_changed("")
        self._unsubscribe = self._member.cache.on_change(self._settings_changed)
        self._member.start_heartbeat(self.node)
        metrics = self._process.metrics
        metrics.gauge_of(
            "ssh_connections", "SSH connections being served", lambda: self._pool.open_connections
        )
        metrics.gauge_of(
            "ssh_connections_waiting", "SSH connections whose client is away", lambda: self._desk.waiting
        )

    def node(self) -> Node:
        """This node as the cluster should know it; the same object until something changes."""
        if self._node is None:
            section = self._config.ssh_service
            self._node = Node(
                metadata=Metadata(name=self._member.identity.host_id, labels=section.labels),
                spec=ServerSpec(
                    hostname=self._config.nodename,
                    addr="" if self._listener is None else self._advertised(),
                    public_addrs=list(section.public_addrs),
                    cmd_labels=self._labels.current(),
                    use_tunnel=self._links.used,
                    proxy_ids=self._links.proxy_ids,
                    version=VERSION,
                ),
            )
        return self._node

    # What a service's process asks of it.

    async def reload(self) -> None:
        """Nothing of the SSH Service lives in files but what the membership renews by itself."""

    async def drain(self, timeout_s: float) -> None:
        if self._listener is not None:
            self._listener.stop_accepting()
        await self._links.stop_accepting()
        await self._pool.drain(timeout_s)

    async def close(self) -> None:
        self._unsubscribe()
        if self._static_users is not None:
            await self._static_users.close()
        if self._listener is not None:
            self._listener.stop_accepting()
        await self._pool.close()
        if self._groups is not None:
            self._groups.release()
        await self._desk.close()
        await self._reviews.close()
        await self._reporter.close()
        if self._listener is not None:
            await self._listener.close()
        await self._links.close()
        await self._labels.close()
        await self._recorder.close()
        await self._leases.close()
        self._book.close()
        if self._host_users is not None:
            await self._host_users.close()
        await self._member.close()

    # Streams in.

    async def _listen(self) -> None:
        host_id = self._member.identity.host_id
        verifier = ProxyVerifier(lambda: self._member.cache.trust, self._now, audience=host_id)
        self._listener = Listener(
            bind(self._config.ssh_listen_addr),
            self._serve_direct,
            hello=False,
            verify_proxy=verifier,
            log=self._process.component_log("listener"),
        )
        self._listener.start()
        self._log.info("listening", extra={"addr": ",".join(self._listener.addresses)})

    async def _serve_direct(self, accepted: Accepted) -> None:
        addr = accepted.remote_addr
        try:
            if await self._desk.serve(FromListener(accepted.sock), addr):
                return
            task = await self._pool.serve(accepted.sock, addr)
        except AccessError as problem:
            accepted.sock.close()
            self._log.warning("a connection is refused: %s", problem, extra={"addr": addr})
            return
        await asyncio.wait([task])

    async def _divert_tunnel(self, stream: Stream, header: DialHeader) -> bool:
        _check(header)
        return await self._desk.serve(FromTunnel(stream), header.client_addr)

    async def _serve_tunnel(self, sock: socket.socket, header: DialHeader) -> None:
        await self._pool.serve(sock, header.client_addr)

    async def _begin(self, sock: socket.socket, client_addr: str) -> Guest:
        """A connection of its own that may outlive the stream it came by."""
        made: list[SshConnection] = []

        def make(start: Start, end: Callable[[str], None]) -> SshConnection:
            made.append(self._new_connection(start, end))
            return made[0]

        await self._pool.serve(sock, client_addr, make_service=make)
        return made[0]

    def _new_connection(self, start: Start, end: Callable[[str], None]) -> SshConnection:
        connection = SshConnection(self._shared, start, end, self._reviews.discard)
        self._reviews.add(connection)
        return connection

    # Changes.

    def _settings_changed(self, kind: str) -> None:
        cache = self._member.cache
        if kind != "node":
            self._reviews.changed(kind)
        if kind == "static_host_user" and self._static_users is not None:
            self._static_users.changed()
        if kind in ("", "cluster_networking_config"):
            spec = cache.networking.spec
            self._pool.keep_alive_s = parse_duration(spec.keep_alive_interval)
            self._pool.keep_alive_count = spec.keep_alive_count_max
        self._links.changed(kind)

    def _node_changed(self) -> None:
        self._node = None
        self._reviews.changed("node")  # the labels may be others
        if self._static_users is not None:
            self._static_users.changed()

    def _static_desired(self) -> tuple[list[StaticHostUser], Mapping[str, str]]:
        found = self._member.cache.resources("static_host_user")
        return [user for user in found if isinstance(user, StaticHostUser)], labels_of(self.node())

    def _proxy_addr(self) -> str:
        if self._config.proxy_addr:
            return self._config.proxy_addr
        for proxy in self._member.cache.proxies.values():
            return next(iter(proxy.spec.public_addrs), proxy.spec.addr)
        return ""

    def _advertised(self) -> str:
        assert self._listener is not None
        host, port = split_host_port(self._listener.addresses[0])
        if self._config.teleport.advertise_ip:
            host = self._config.teleport.advertise_ip
        elif host.strip("[]") in WILDCARDS:
            host = _own_address()
        return f"[{host}]:{port}" if ":" in host and not host.startswith("[") else f"{host}:{port}"


def _check(header: DialHeader) -> None:
    """Whether a stream that a proxy announces so is one for us."""
    if header.service != "ssh":
        raise NotFoundError(f"service {header.service!r} is not served here")
    host, port = split_host_port(header.client_addr)
    if not host or not port:
        raise InputError("the proxy gave no client address")


def uses_tunnels(config: Config) -> bool:
    """Whether users reach this agent through the proxies alone."""
    if config.proxy_addr:
        return True
    listens = config.ssh_service.listen_addr or config.ssh_service.force_listen
    return config.auth_service.enabled and config.proxy_service.enabled and not listens


def _own_address() -> str:
    """The address this host has towards the outside; no packet is sent."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("192.0.2.1", 9))
            return str(probe.getsockname()[0])
        except OSError:
            return "127.0.0.1"


async def start(process: Process) -> SshService:
    """Join the cluster and serve."""
    config = process.config
    principals = [split_host_port(addr, 0)[0] for addr in config.ssh_service.public_addrs]
    if config.teleport.advertise_ip:
        principals.append(config.teleport.advertise_ip)
    member = await Member.start(
        process, SystemRole.NODE, watch=(*KINDS_HOST, "static_host_user"), additional_principals=principals
    )
    service = SshService(process, member)
    try:
        await service.start()
    except AccessError:
        await member.close()
        raise
    return service
