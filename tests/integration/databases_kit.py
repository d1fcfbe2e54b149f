"""A Database Service in this process, joined to an Auth Service in this process, and clients for it.

Streams are handed to it as its tunnel would hand them over; its protocol is the echo of the harness, its
database a real TLS server with certificates of the cluster.
"""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pkgs.agents.db.engine import Engine
from pkgs.agents.db.service import DbServer, start
from pkgs.common.api.databases import SignDatabaseServerCert
from pkgs.common.api.login import ReissueUserCerts, UserCerts
from pkgs.common.api.resources import CreateToken, PutResource
from pkgs.common.api.tunnel import DialHeader
from pkgs.common.net.handshake import start_tls
from pkgs.common.net.stream import Stream, adopt
from pkgs.common.net.tls import client_context
from pkgs.common.pki.identity import RouteToDatabase
from pkgs.common.pki.keys import new_tls_key
from pkgs.common.resources.kinds import Database, DatabaseServer, DatabaseServerSpec, DatabaseSpec
from pkgs.common.resources.metadata import Metadata
from pkgs.common.resources.role import Conditions
from pkgs.common.runtime.config import parse_config
from pkgs.common.runtime.process import Process
from tests.harness.db_echo import EchoEngine, EchoServer
from tests.integration.auth_kit import Kit, User, role

CLIENT_ADDR = "203.0.113.7:4444"
DBA = Conditions(db_labels={"env": "prod"}, db_users=["alice"], db_names=["app"])


def database(name: str, uri: str = "127.0.0.1:1", protocol: str = "echo", **labels: str) -> Database:
    return Database(
        metadata=Metadata(name=name, labels=labels), spec=DatabaseSpec(protocol=protocol, uri=uri)
    )


def database_server(name: str, host_id: str, **labels: str) -> DatabaseServer:
    """As an agent of that host announces it."""
    inner = database(name, protocol="postgres", **labels)
    return DatabaseServer(
        metadata=Metadata(name=name, labels=labels),
        sub_kind=host_id,
        spec=DatabaseServerSpec(host_id=host_id, database=inner),
    )


@dataclass
class DatabaseKit:
    kit: Kit
    service: DbServer
    server: EchoServer
    port: int
    streams: list[Stream] = field(default_factory=list)
    serving: list[asyncio.Task[bool]] = field(default_factory=list)

    @property
    def host_id(self) -> str:
        return self.service._member.identity.host_id

    async def certs(self, user: User, service: str = "orders", **fields: Any) -> tuple[UserCerts, bytes]:
        """A certificate for a database, and its key; `fields` of the route, or of the call."""
        key = new_tls_key()
        of_call = {name: fields.pop(name) for name in ("otp", "ttl_s", "assume", "drop") if name in fields}
        route = RouteToDatabase(**{"service": service, "protocol": "echo", "user": "alice", **fields})
        request = ReissueUserCerts(
            ssh_public_key="", tls_public_key=key.public_pem, route_to_database=route, **of_call
        )
        return await self.kit.as_user(user).call(request), key.private_pem

    async def dial(
        self, cert_pem: str, key_pem: bytes, name: str = "orders", *, greeted_as: int = 0
    ) -> Stream:
        """As a client whose host name was about that database; perhaps one that a proxy says it greeted."""
        ours = await self._reach(CLIENT_ADDR, name, greeted_as)
        context = client_context(roots_pem=self.kit.roots(), cert_pem=cert_pem, key_pem=key_pem)
        stream = await start_tls(ours, context, server_hostname=f"{name}.db.teleport.cluster.local")
        self.streams.append(stream)
        return stream

    async def knock(self, client_addr: str, name: str = "orders") -> Stream:
        """As somebody who says nothing."""
        stream = await adopt(await self._reach(client_addr, name))
        self.streams.append(stream)
        return stream

    async def _reach(self, client_addr: str, name: str, greeted_as: int = 0) -> socket.socket:
        ours, theirs = socket.socketpair()
        for sock in (ours, theirs):
            sock.setblocking(False)
        header = DialHeader(service="db", client_addr=client_addr, target=name, greeted_as=greeted_as)
        serving = self.service._serve_stream(await adopt(theirs), header)
        self.serving.append(asyncio.create_task(serving))
        await asyncio.sleep(0)  # until it waits for the hello
        return ours

    async def open(self, user: User, hello: str = "hello alice app", name: str = "orders") -> Stream:
        """The same with a certificate of that user's, after the protocol's greeting."""
        certs, key = await self.certs(user, name)
        stream = await self.dial(certs.tls_cert, key, name)
        stream.write(hello.encode() + b"\n")
        return stream


async def line(stream: Stream) -> str:
    """The next one; empty at the end."""
    got = b""
    while not got.endswith(b"\n"):
        try:
            got += await stream.read_exactly(1)
        except Exception:
            return got.decode()
    return got.decode().rstrip("\n")


async def server_files(kit: Kit) -> dict[str, str]:
    """What `tctl auth sign` makes for a database server on this host, by the names that `db_servers` uses."""
    key = new_tls_key()
    signed = await kit.admin.call(
        SignDatabaseServerCert(names=["127.0.0.1"], public_key=key.public_pem, ttl_s=3600)
    )
    return {
        "server.key": key.private_pem.decode(),
        "server.pem": signed.cert,
        "ca.pem": signed.client_authorities,
    }


@asynccontextmanager
async def databases(
    kit: Kit, folder: Path, *, more: str = "", engines: Sequence[Engine] = ()
) -> AsyncIterator[DatabaseKit]:
    """A service with the database `orders` (label env=prod), which allows alice, and whatever `more` adds to
    its section. Beside the echo's it has these engines; one for `echo` takes its place."""
    await kit.admin.call(PutResource(resource=role("dba", DBA)))
    folder.mkdir(mode=0o700)
    files = await server_files(kit)
    for ending, name in (("key", "server.key"), ("crt", "server.pem"), ("cas", "ca.pem")):
        (folder / f"server.{ending}").write_text(files[name])
    server = EchoServer(folder, "server")
    port = await server.start()
    token = (await kit.admin.call(CreateToken(roles=["Db"]))).resource.name
    pins = kit.service.authorities.trust.pins()
    config = parse_config(
        f"""
version: v3
teleport:
  nodename: dbhost
  data_dir: {folder}/data
  auth_server: 127.0.0.1:{kit.port}
  auth_token: {token}
  ca_pin: [{pins[0]!r}]
auth_service: {{enabled: no}}
ssh_service: {{enabled: no}}
db_service:
  enabled: yes
  databases:
  - {{name: orders, protocol: echo, uri: "127.0.0.1:{port}", static_labels: {{env: prod}}}}
{more}
"""
    )
    process = Process(
        config=config, name="db", data_dir=folder / "data", log=logging.getLogger("db"), clock=kit.clock
    )
    (folder / "data").mkdir(mode=0o700)
    service = await start(process, [EchoEngine(), *engines])
    try:
        await service._member.heartbeat_now()
        made = DatabaseKit(kit, service, server, port)
        try:
            yield made
        finally:
            for stream in made.streams:
                stream.abort()
            await asyncio.gather(*made.serving, return_exceptions=True)
    finally:
        await service.close()
        await server.close()


async def until(condition: Any, what: str, deadline_s: float = 20.0) -> None:
    """Wait for something to become true, on this loop; `condition` may be a coroutine function."""
    waits = asyncio.iscoroutinefunction(condition)
    try:
        async with asyncio.timeout(deadline_s):
            while not (await condition() if waits else condition()):  # noqa: ASYNC110
                await asyncio.sleep(0.02)
    except TimeoutError:
        raise AssertionError(f"not in time: {what}") from None
