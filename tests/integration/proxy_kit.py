"""A real Proxy Service on loopback with an authority of its own, and doubles for Auth, agents and users.

Everything between the sockets is the product's: listener, TLS, router, tunnels, dial gate, web. Only the
membership is made up: certificates are signed here, the cluster's state is a few tables, and calls to the
Auth Service are answered by `FakeAuth`.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import socket
import ssl
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec
import uvloop

from pkgs.common.api.login import UserCerts
from pkgs.common.api.tunnel import DataHello, DialHeader, OpenTunnel, UserDial, UserDialReply
from pkgs.common.errors import DeniedError, UnavailableError
from pkgs.common.events.types import Event
from pkgs.common.membership.identity import HostIdentity
from pkgs.common.net.dial import dial_tls, split_host_port
from pkgs.common.net.framing import encode_frame, read_frame
from pkgs.common.net.handshake import accept_tls
from pkgs.common.net.listener import Accepted, Listener, bind
from pkgs.common.net.proxyproto.signed import FOR_AUTH, ProxyVerifier
from pkgs.common.net.relay import relay
from pkgs.common.net.stream import Stream, adopt
from pkgs.common.net.tls import client_context, server_context
from pkgs.common.pki.authority import new_authority
from pkgs.common.pki.certspec import HostCertSpec, UserCertSpec
from pkgs.common.pki.identity import Identity, SystemRole
from pkgs.common.pki.keys import new_ssh_key, new_tls_key
from pkgs.common.pki.signer import CaSigners, signers_of
from pkgs.common.pki.sshcert import sign_host_cert
from pkgs.common.pki.trust import Trust
from pkgs.common.pki.x509 import role_dns_name, sign_host_tls, sign_user_tls
from pkgs.common.resources.kinds import (
    AuthPreference,
    CertAuthority,
    DatabaseServer,
    Lock,
    NetworkingConfig,
    Node,
    Proxy,
    RecordingConfig,
    ServerSpec,
)
from pkgs.common.resources.metadata import Metadata
from pkgs.common.resources.role import Conditions, Role, RoleSpec
from pkgs.common.rpc.client import Endpoint, RpcClient
from pkgs.common.runtime.config import parse_config
from pkgs.common.runtime.process import Process
from pkgs.proxy.connections.tunnels import BARE_ROLES
from pkgs.proxy.router import SshDoor
from pkgs.proxy.service import ProxyService
from tests.harness.wait import until

CLUSTER = "test"
PROXY_NAME = role_dns_name(SystemRole.PROXY)


def run(coroutine: Coroutine[Any, Any, None], deadline_s: float = 30.0) -> None:
    async def bounded() -> None:
        async with asyncio.timeout(deadline_s):
            await coroutine

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(bounded())


@dataclass(frozen=True)
class Credentials:
    cert: str
    key: bytes
    roots: str

    def context(self, alpn: str) -> ssl.SSLContext:
        return client_context(roots_pem=self.roots, cert_pem=self.cert, key_pem=self.key, alpn=(alpn,))


class Authorities:
    """The certificate authorities of a cluster."""

    def __init__(self, cluster: str = CLUSTER) -> None:
        self.cluster = cluster
        self.all: list[CertAuthority] = [
            new_authority("host", cluster, time.time()),
            new_authority("user", cluster, time.time()),
        ]
        self._signers: dict[str, CaSigners] = {ca.spec.type: signers_of(ca) for ca in self.all}
        self.trust = Trust.from_authorities(self.all, cluster)
        self.roots = self.trust.tls_roots_pem("host")

    def user(
        self,
        name: str = "alice",
        *,
        roles: tuple[str, ...] = ("access",),
        source_addr: str = "",
        ttl_s: float = 3600,
        began_ago_s: float = 60,
        **facts: Any,
    ) -> Credentials:
        key = new_tls_key()
        now = time.time()
        spec = UserCertSpec(
            user=name,
            cluster=self.cluster,
            roles=roles,
            logins=("root",),
            valid_after=now - began_ago_s,
            valid_before=now + ttl_s,
            source_addr=source_addr,
            **facts,
        )
        return Credentials(
            sign_user_tls(self._signers["user"].tls, spec, key.public_pem), key.private_pem, self.roots
        )

    def host(self, host_id: str, role: SystemRole) -> HostIdentity:
        ssh, tls = new_ssh_key(), new_tls_key()
        spec = HostCertSpec(
            host_id=host_id,
            node_name=f"{role.value.lower()}-host",
            cluster=self.cluster,
            system_roles=(role,),
            valid_after=time.time() - 60,
            valid_before=time.time() + 3600,
        )
        signers = self._signers["host"]
        return HostIdentity(
            role=role,
            host_id=host_id,
            node_name=spec.node_name,
            cluster_name=self.cluster,
            ssh_private_pem=ssh.private_pem,
            ssh_cert=sign_host_cert(signers.ssh, spec, ssh.public_line),
            tls_private_pem=tls.private_pem,
            tls_cert=sign_host_tls(signers.tls, spec, tls.public_pem),
            authorities=self.all,
            valid_after=spec.valid_after,
        )

    def host_credentials(self, host_id: str, role: SystemRole = SystemRole.NODE) -> Credentials:
        identity = self.host(host_id, role)
        return Credentials(identity.tls_cert, identity.tls_private_pem, self.roots)


def role(name: str, labels: dict[str, Any]) -> Role:
    return Role(
        metadata=Metadata(name=name),
        spec=RoleSpec(allow=Conditions(logins=["root"], node_labels=labels)),
    )


def node(host_id: str, hostname: str, *, addr: str = "", **labels: str) -> Node:
    return Node(
        metadata=Metadata(name=host_id, labels=labels),
        spec=ServerSpec(hostname=hostname, addr=addr, use_tunnel=not addr),
    )


class FakeCache:
    """What the proxy reads of the cluster."""

    def __init__(self, authorities: Authorities) -> None:
        self.cluster_name = authorities.cluster
        self.trust = authorities.trust
        self.roles = {
            "access": role("access", {"*": "*"}),
            "staging": role("staging", {"env": "staging"}),
        }
        self.nodes: dict[str, Node] = {}
        self.proxies: dict[str, Proxy] = {}
        self.database_servers: dict[str, tuple[DatabaseServer, ...]] = {}
        self.locks: tuple[Lock, ...] = ()
        self.auth_preference = AuthPreference(metadata=Metadata(name="p"))
        self.networking = NetworkingConfig(metadata=Metadata(name="n"))
        self.recording_config = RecordingConfig(metadata=Metadata(name="r"))
        self.stale_for_s = 0.0
        self._callbacks: list[Callable[[str], None]] = []

    def roles_of(self, identity: Identity) -> tuple[Role, ...]:
        try:
            return tuple(self.roles[name] for name in identity.roles)
        except KeyError as exc:
            raise DeniedError("access denied") from exc

    def on_change(self, callback: Callable[[str], None]) -> Callable[[], None]:
        self._callbacks.append(callback)
        return lambda: self._callbacks.remove(callback)

    def tell(self, kind: str) -> None:
        """Something of this kind was changed here."""
        for callback in list(self._callbacks):
            callback(kind)


class FakeAuth:
    """Answers what the web API asks of the Auth Service."""

    def __init__(self) -> None:
        self.calls: list[Any] = []
        self.answer: Callable[[Any], Any] = lambda request: None
        self.down = False

    async def call(self, request: Any, *, deadline_s: float = 10.0, idempotency_key: str = "") -> Any:
        if self.down:
            raise UnavailableError("connection refused", detail="127.0.0.1:3025")
        self.calls.append(request)
        result = self.answer(request)
        return await result if isinstance(result, Awaitable) else result


class FakeEmitter:
    def __init__(self) -> None:
        self.events: list[Event] = []

    async def emit(self, *events: Event) -> None:
        self.events += events


class FakeMember:
    def __init__(self, identity: HostIdentity, cache: FakeCache) -> None:
        self.identity = identity
        self.cache = cache
        self.client = FakeAuth()
        self.emitter = FakeEmitter()
        self.renewed: list[Callable[[HostIdentity], None]] = []
        self.describe: Callable[[], Proxy] | None = None

    def on_identity_change(self, callback: Callable[[HostIdentity], None]) -> None:
        self.renewed.append(callback)

    def start_heartbeat(self, make_server: Callable[[], Proxy]) -> None:
        self.describe = make_server

    async def close(self) -> None:
        return


class EchoDoor:
    """Stands for the SSH server of the proxy: says where the peer is, then echoes."""

    async def serve(self, sock: socket.socket, remote_addr: str) -> None:
        stream = await adopt(sock)
        stream.write(remote_addr.encode() + b"\n")
        await _echo(stream)


@dataclass
class ProxyKit:
    authorities: Authorities
    cache: FakeCache
    member: FakeMember
    service: ProxyService
    addr: str
    ssh_addr: str
    background: list[asyncio.Task[Any]] = field(default_factory=list)

    @property
    def auth(self) -> FakeAuth:
        return self.member.client

    @property
    def events(self) -> list[Event]:
        return self.member.emitter.events

    def add(self, *nodes: Node) -> None:
        self.cache.nodes |= {one.metadata.name: one for one in nodes}

    async def agent(self, host_id: str, role: SystemRole = SystemRole.NODE, **options: Any) -> Agent:
        credentials, bare = self.authorities.host_credentials(host_id, role), role in BARE_ROLES
        agent = Agent(self.addr, credentials, host_id, bare=bare, **options)
        await agent.start()
        await until(lambda: self.service.tunnels.holds(host_id, role))
        return agent

    async def dial(
        self, target: str, credentials: Credentials | None = None, *, addr: str = "", **fields: str
    ) -> tuple[UserDialReply, Stream]:
        """What `tsh` does: the reply, and the stream that then is the agent's."""
        mine = credentials or self.authorities.user()
        stream = await dial_tls(addr or self.addr, mine.context("teleport-dial"), server_hostname=PROXY_NAME)
        try:
            stream.write(encode_frame(UserDial(target=target, **fields)))
            return await read_frame(stream, UserDialReply), stream
        except BaseException:
            stream.abort()
            raise

    async def refused(
        self, target: str, credentials: Credentials | None = None, **fields: str
    ) -> UserDialReply:
        reply, stream = await self.dial(target, credentials, **fields)
        assert reply.error
        assert await stream.read_some() == b""
        stream.abort()
        return reply


async def _echo(stream: Stream) -> None:
    while data := await stream.read_some():
        stream.write(data)
        await stream.drain()
    await stream.close()


class Agent:
    """An agent as the proxy sees it: obeys dial requests, tells each user the header it got, then echoes."""

    def __init__(
        self,
        addr: str,
        credentials: Credentials,
        host_id: str,
        *,
        spares: bool = True,
        mute: bool = False,
        bare: bool = False,
    ) -> None:
        self._bare = bare
        self.addr = addr
        self.host_id = host_id
        self.credentials = credentials
        self.pings = 0
        self.asked: list[str] = []
        self.ended = asyncio.Event()
        self._answers_spares = spares
        self._mute = mute
        self._client = RpcClient(self._endpoint())
        self._tasks: set[asyncio.Task[None]] = set()
        self.streams: list[Stream] = []

    def _endpoint(self) -> Endpoint:
        host, port = split_host_port(self.addr)
        return Endpoint(
            host=host,
            port=port,
            ssl_context=self.credentials.context("teleport-reversetunnel"),
            server_hostname=PROXY_NAME,
        )

    async def start(self) -> None:
        self._spawn(self._obey())

    def _spawn(self, coroutine: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(coroutine)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _obey(self) -> None:
        try:
            async for item in self._client.stream(OpenTunnel(services=["ssh"])):
                if item.ping:
                    self.pings += 1
                    continue
                self.asked.append(item.dial_id)
                if item.dial_id or self._answers_spares:
                    self._spawn(self._carry(item.dial_id))
        except UnavailableError:
            pass
        finally:
            self.ended.set()

    async def data(self, dial_id: str, credentials: Credentials | None = None) -> Stream:
        mine = credentials or self.credentials
        stream = await dial_tls(
            self.addr, mine.context("teleport-reversetunnel-data"), server_hostname=PROXY_NAME
        )
        self.streams.append(stream)
        stream.write(encode_frame(DataHello(dial_id=dial_id)))
        if self._bare:
            stream.shed_writing()
        return stream

    async def _carry(self, dial_id: str) -> None:
        with contextlib.suppress(UnavailableError):
            stream = await self.data(dial_id)
            header = await read_frame(stream, DialHeader)
            if self._bare:
                await stream.shed_reading()
            if self._mute:
                return
            stream.write(json.dumps(msgspec.to_builtins(header)).encode() + b"\n")
            await _echo(stream)

    async def close(self) -> None:
        await self._client.close()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for stream in self.streams:
            stream.abort()


async def read_line(stream: Stream) -> bytes:
    line = b""
    while not line.endswith(b"\n"):
        line += await stream.read_exactly(1)
    return line


@contextlib.asynccontextmanager
async def proxy(
    folder: Path,
    *,
    authorities: Authorities | None = None,
    settings: str = "",
    auth_addrs: tuple[str, ...] = (),
    host_id: str = "00000000-0000-4000-8000-00000000000a",
    ssh: SshDoor | None = None,
) -> AsyncIterator[ProxyKit]:
    """A running proxy. `settings` are more lines of its section in the configuration."""
    authorities = authorities or Authorities()
    folder.mkdir(parents=True, exist_ok=True)
    text = (
        f"version: v3\nteleport:\n  nodename: proxy-host\n  data_dir: {folder}\n  auth_server: 127.0.0.1:1\n"
        "auth_service: {enabled: no}\nssh_service: {enabled: no}\n"
        "proxy_service:\n  enabled: yes\n  web_listen_addr: 127.0.0.1:0\n  listen_addr: 127.0.0.1:0\n"
        + settings
    )
    config = parse_config(text, "teleport.yaml")
    process = Process(config=config, name="proxy", data_dir=folder, log=logging.getLogger("test.proxy"))
    cache = FakeCache(authorities)
    member = FakeMember(authorities.host(host_id, SystemRole.PROXY), cache)
    service = ProxyService(process, member, auth_addrs)  # type: ignore[arg-type]
    try:
        await service.start(ssh or EchoDoor())
        shown = service.shown_addresses
        yield ProxyKit(authorities, cache, member, service, shown.web_listen, shown.ssh_listen)
    finally:
        await service.close()


@dataclass
class AuthDouble:
    """Stands for the Auth Service's port: believes signed PROXY headers, speaks TLS, tells who called."""

    listener: Listener
    addr: str
    seen: list[Accepted] = field(default_factory=list)


@contextlib.asynccontextmanager
async def auth_port(authorities: Authorities) -> AsyncIterator[AuthDouble]:
    identity = authorities.host("00000000-0000-4000-8000-0000000000aa", SystemRole.AUTH)
    context = server_context(cert_pem=identity.tls_cert, key_pem=identity.tls_private_pem)
    seen: list[Accepted] = []

    async def serve(accepted: Accepted) -> None:
        seen.append(accepted)
        stream = await accept_tls(accepted.sock, context)
        try:
            stream.write(f"{accepted.remote_addr} {accepted.via_proxy}\n".encode())
            await _echo(stream)
        except UnavailableError:
            pass
        finally:
            stream.abort()

    listener = Listener(
        bind("127.0.0.1:0"),
        serve,
        verify_proxy=ProxyVerifier(lambda: authorities.trust, time.time, audience=FOR_AUTH),
    )
    listener.start()
    try:
        yield AuthDouble(listener, listener.addresses[0], seen)
    finally:
        await listener.close()


__all__ = [
    "Agent",
    "Authorities",
    "ProxyKit",
    "UserCerts",
    "auth_port",
    "node",
    "proxy",
    "read_line",
    "relay",
    "run",
    "until",
]
