"""A small Auth Service for tests of membership: real RPC, TLS and certificates, state in memory."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
import time
from collections.abc import AsyncIterator
from pathlib import Path

from cryptography import x509 as cx509
from cryptography.hazmat.primitives.serialization import Encoding

from pkgs.common.api.audit import EmitEvents
from pkgs.common.api.join import HostCerts, Join, RenewHostCerts
from pkgs.common.api.login import Done
from pkgs.common.api.resources import Heartbeat, WatchItem, WatchResources
from pkgs.common.api.system import GetHostCa, HostCa
from pkgs.common.errors import AlreadyExistsError, DeniedError
from pkgs.common.events.types import Event
from pkgs.common.net.tls import server_context
from pkgs.common.pki import x509
from pkgs.common.pki.authority import new_authority, without_secrets
from pkgs.common.pki.certspec import HostCertSpec
from pkgs.common.pki.identity import Identity, SystemRole
from pkgs.common.pki.keys import new_tls_key
from pkgs.common.pki.signer import signers_of
from pkgs.common.pki.sshcert import sign_host_cert
from pkgs.common.pki.trust import Trust
from pkgs.common.resources.defaults import default_singletons
from pkgs.common.resources.kinds import Node, Proxy, Resource, ServerSpec
from pkgs.common.resources.metadata import Metadata
from pkgs.common.resources.presets import preset_roles
from pkgs.common.rpc.calls import Caller, Callers
from pkgs.common.rpc.server import Registry, RpcServer
from pkgs.common.runtime.config import parse_config
from pkgs.common.runtime.process import Process

TOKEN = "correct-horse-battery"
AUTH_ID = "11111111-2222-4333-8444-555555555555"


class SmallAuth:
    """One cluster. `start` again after `stop` is a restart on the same port."""

    def __init__(self, folder: Path, cluster: str = "alpha") -> None:
        self.folder = folder
        self.cluster = cluster
        self.now = time.time
        self.authorities = [new_authority(kind, cluster, time.time()) for kind in ("host", "user")]
        self.signers = signers_of(self.authorities[0])
        self.trust = Trust.from_authorities(self.authorities)
        self.resources: list[Resource] = [
            *(without_secrets(ca) for ca in self.authorities),
            *default_singletons(cluster, AUTH_ID),
            *preset_roles(),
        ]
        self.hosts: set[str] = set()
        self.joins: list[tuple[Join, bool]] = []
        self.renewals = 0
        self.host_ttl_s = 30 * 86400.0
        self.port = 0
        self.events: list[Event] = []
        self.beats: list[Node | Proxy] = []
        self.watchers: list[asyncio.Queue[WatchItem]] = []
        self.refuse_watch = False
        self._server: RpcServer | None = None
        self._listener: socket.socket | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    @property
    def addr(self) -> str:
        return f"127.0.0.1:{self.port}"

    @property
    def pin(self) -> str:
        return self.trust.pins()[0]

    async def start(self) -> None:
        registry = Registry()
        registry.register(GetHostCa, self._host_ca, callers=Callers.NOBODY | Callers.HOST)
        registry.register(Join, self._join, callers=Callers.NOBODY | Callers.HOST | Callers.ADMIN)
        registry.register(RenewHostCerts, self._renew, callers=Callers.HOST)
        registry.register(WatchResources, self._watch, callers=Callers.HOST)
        registry.register(Heartbeat, self._beat, callers=Callers.HOST)
        registry.register(EmitEvents, self._emit, callers=Callers.HOST)
        self._server = RpcServer(registry, identify=self._identify, log=logging.getLogger("small-auth"))
        await self._server.start(self.folder)
        key = new_tls_key()
        spec = HostCertSpec(
            host_id=AUTH_ID,
            cluster=self.cluster,
            system_roles=(SystemRole.AUTH,),
            valid_after=self.now() - 60,
            valid_before=self.now() + 3600,
        )
        assert self.signers.tls
        context = server_context(
            cert_pem=x509.sign_host_tls(self.signers.tls, spec, key.public_pem),
            key_pem=key.private_pem,
            client_roots_pem=self.trust.tls_roots_pem("user", "host"),
        )
        self._listener = socket.create_server(("127.0.0.1", self.port))
        self._listener.setblocking(False)
        self.port = self._listener.getsockname()[1]
        self._spawn(self._accept(self._listener, context))

    async def _accept(self, listener: socket.socket, context: object) -> None:
        loop = asyncio.get_running_loop()
        while True:
            sock, address = await loop.sock_accept(listener)
            assert self._server
            self._spawn(self._server.serve_tls_socket(sock, context, address[0]))  # type: ignore[arg-type]

    def _spawn(self, work) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def stop(self) -> None:
        if self._listener:
            self._listener.close()
        if self._server:
            await self._server.close()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._server = self._listener = None
        self.watchers.clear()

    def put(self, resource: Resource) -> None:
        self.resources = [
            r
            for r in self.resources
            if (r.kind, r.sub_kind, r.name) != (resource.kind, resource.sub_kind, resource.name)
        ]
        self.resources.append(resource)
        for queue in self.watchers:
            queue.put_nowait(WatchItem(op="put", resources=[resource]))

    def delete(self, kind: str, name: str) -> None:
        self.resources = [r for r in self.resources if (r.kind, r.name) != (kind, name)]
        for queue in self.watchers:
            queue.put_nowait(WatchItem(op="delete", kind=kind, name=name))

    def resync(self) -> None:
        for queue in self.watchers:
            queue.put_nowait(WatchItem(op="resync"))

    def _identify(self, der: bytes | None) -> Identity | None:
        return None if der is None else x509.verify_peer(der, trust=self.trust, now=self.now())

    async def _host_ca(self, caller: Caller, req: GetHostCa) -> HostCa:
        return HostCa(cluster_name=self.cluster, host_ca_pems=[self.trust.tls_roots_pem("host")])

    async def _join(self, caller: Caller, req: Join) -> HostCerts:
        vouched = caller.identity is not None and caller.identity.name == req.host_id
        self.joins.append((req, vouched))
        if not vouched:
            if req.token != TOKEN:
                raise DeniedError("the join token is wrong or has expired")
            if req.host_id in self.hosts:
                raise AlreadyExistsError("a host with this id has joined already")
        self.hosts.add(req.host_id)
        return self._certs(req.host_id, req.role, req)

    async def _renew(self, caller: Caller, req: RenewHostCerts) -> HostCerts:
        self.renewals += 1
        return self._certs(caller.host().name, caller.host().system_roles[0], req)

    def _certs(self, host_id: str, role: SystemRole, req: Join | RenewHostCerts) -> HostCerts:
        spec = HostCertSpec(
            host_id=host_id,
            node_name=req.node_name,
            cluster=self.cluster,
            system_roles=(role,),
            additional_principals=tuple(req.additional_principals),
            valid_after=self.now() - 60,
            valid_before=self.now() + self.host_ttl_s,
        )
        assert self.signers.ssh and self.signers.tls
        return HostCerts(
            host_id=host_id,
            cluster_name=self.cluster,
            ssh_cert=sign_host_cert(self.signers.ssh, spec, req.ssh_public_key),
            tls_cert=x509.sign_host_tls(self.signers.tls, spec, req.tls_public_key),
            authorities=[without_secrets(ca) for ca in self.authorities],
        )

    async def _watch(self, caller: Caller, req: WatchResources) -> AsyncIterator[WatchItem]:
        if self.refuse_watch:
            raise DeniedError("not now")
        queue: asyncio.Queue[WatchItem] = asyncio.Queue()
        yield WatchItem(op="snapshot", resources=[r for r in self.resources if r.kind in req.kinds])
        self.watchers.append(queue)
        yield WatchItem(op="ready")
        while True:
            item = await queue.get()
            yield item
            if item.op == "resync":
                self.watchers.remove(queue)
                return

    async def _beat(self, caller: Caller, req: Heartbeat) -> Done:
        self.beats.append(req.server)
        return Done()

    async def _emit(self, caller: Caller, req: EmitEvents) -> Done:
        known = {event.uid for event in self.events}
        self.events += [event for event in req.events if event.uid not in known]
        return Done()


def leaf_der(pem: str) -> bytes:
    return cx509.load_pem_x509_certificate(pem.encode()).public_bytes(Encoding.DER)


def process_of(
    data_dir: Path,
    *,
    auth: str = "",
    proxy: str = "",
    token: str = TOKEN,
    pin: str = "",
    nodename: str = "build-1",
    name: str = "ssh",
) -> Process:
    server = f"auth_server: {auth}" if auth else f"proxy_server: {proxy}"
    lines = [
        "version: v3",
        "teleport:",
        f"  data_dir: {data_dir}",
        f"  nodename: {nodename}",
        f"  {server}",
        "  auth_connection_config: {upper_limit_between_retries: 10s, initial_connection_delay: 100ms}",
        *([f"  auth_token: {token}"] if token else []),
        *([f"  ca_pin: '{pin}'"] if pin else []),
        "auth_service: {enabled: no}",
        "proxy_service: {enabled: no}",
        "ssh_service: {enabled: yes}",
    ]
    data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
    return Process(
        config=parse_config("\n".join(lines) + "\n"),
        name=name,  # type: ignore[arg-type]
        data_dir=data_dir,
        log=logging.getLogger("test"),
    )


def node(host_id: str, hostname: str = "build-1", **labels: str) -> Node:
    return Node(metadata=Metadata(name=host_id, labels=labels), spec=ServerSpec(hostname=hostname))


@contextlib.asynccontextmanager
async def small_auth(folder: Path, cluster: str = "alpha") -> AsyncIterator[SmallAuth]:
    auth = SmallAuth(folder, cluster)
    await auth.start()
    try:
        yield auth
    finally:
        await auth.stop()
