"""An Auth Service in this process, on loopback, and clients of every kind for it."""

from __future__ import annotations

import asyncio
import base64
import logging
import time
import uuid
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import uvloop

from pkgs.auth import limits
from pkgs.auth.accounts.totp import code_at
from pkgs.auth.service import AuthService
from pkgs.common.api.audit import EmitEvents, SearchEvents
from pkgs.common.api.join import HostCerts, Join
from pkgs.common.api.login import CreateUser, FinishSignup, GetSignup, Login, UserCerts
from pkgs.common.api.recordings import DownloadRecording, ListRecordings, RecordingInfo
from pkgs.common.api.resources import ListResources
from pkgs.common.events import codes
from pkgs.common.events.codes import Kind
from pkgs.common.events.format import new_event
from pkgs.common.events.types import Event
from pkgs.common.net.tls import client_context
from pkgs.common.pki.identity import SystemRole
from pkgs.common.pki.keys import SshKey, TlsKey, new_ssh_key, new_tls_key
from pkgs.common.resources.kinds import Resource
from pkgs.common.resources.metadata import Metadata
from pkgs.common.resources.role import Conditions, Role, RoleOptions, RoleSpec
from pkgs.common.rpc.client import Endpoint, RpcClient
from pkgs.common.runtime.config import parse_config
from pkgs.common.runtime.process import Process

# The real cost of a password check is measured by the bench, not paid by every test.
limits.ARGON2_TIME, limits.ARGON2_MEMORY_KIB = 1, 8 * 1024

PASSWORD = "correct horse battery staple"
TOKEN = "static-token-of-the-tests"
SERVER_NAME = "auth.teleport.cluster.local"
T = TypeVar("T")

CONFIG = """
version: v3
teleport: {{nodename: hub, data_dir: {data_dir}{teleport}}}
auth_service:
  enabled: yes
  cluster_name: alpha.example
  listen_addr: 127.0.0.1:0
  tokens: ["node:{token}", "proxy:proxy-{token}"]
{extra}
proxy_service: {{enabled: yes, public_addr: "proxy.example:3080"}}
ssh_service: {{enabled: no}}
"""


class Clock:
    """The real clock, which a test may turn forward."""

    def __init__(self) -> None:
        self.ahead = 0.0

    def now(self) -> float:
        return time.time() + self.ahead

    def monotonic(self) -> float:
        return time.monotonic()


@dataclass
class User:
    name: str
    secret: bytes
    """Of the one-time codes."""
    ssh_key: SshKey
    tls_key: TlsKey
    step: int
    """The newest step whose code was used."""
    certs: UserCerts | None = None

    def code(self, clock: Clock) -> str:
        """A code that was not used yet; the skew of one step lets two logins follow each other."""
        current = int(clock.now()) // 30
        self.step = max(self.step + 1, current)
        if self.step > current + 1:
            # Time is turned rather than waited for.
            clock.ahead += 30.0 * (self.step - current - 1)
        return code_at(self.secret, self.step)


@dataclass
class Host:
    certs: HostCerts
    ssh_key: SshKey
    tls_key: TlsKey

    @property
    def id(self) -> str:
        return self.certs.host_id


@dataclass
class Kit:
    service: AuthService
    clock: Clock
    data_dir: Path
    stack: AsyncExitStack
    admin: RpcClient = field(init=False)

    @property
    def port(self) -> int:
        return int(self.service.addresses[0].rpartition(":")[2])

    def roots(self) -> str:
        return self.service.authorities.trust.tls_roots_pem("host")

    def client(
        self, cert: str | None = None, key: bytes | None = None, source: str = "127.0.0.1"
    ) -> RpcClient:
        """A client over TLS; without a certificate it is nobody."""
        context = client_context(roots_pem=self.roots(), cert_pem=cert, key_pem=key)

        async def dial(factory: Callable[[], asyncio.Protocol]) -> Any:
            return await asyncio.get_running_loop().create_connection(
                factory,
                "127.0.0.1",
                self.port,
                ssl=context,
                server_hostname=SERVER_NAME,
                local_addr=(source, 0),
            )

        client = RpcClient(dial)
        self.stack.push_async_callback(client.close)
        return client

    def nobody(self, source: str = "127.0.0.1") -> RpcClient:
        return self.client(source=source)

    def as_user(self, user: User, certs: UserCerts | None = None, source: str = "127.0.0.1") -> RpcClient:
        held = certs or user.certs
        assert held is not None
        return self.client(held.tls_cert, user.tls_key.private_pem, source)

    def as_host(self, host: Host) -> RpcClient:
        return self.client(host.certs.tls_cert, host.tls_key.private_pem)

    async def user(
        self, name: str, *roles: str, logins: tuple[str, ...] = ("root",), login: bool = True
    ) -> User:
        """A user with a password and a second factor, logged in."""
        made = await self.admin.call(
            CreateUser(name=name, roles=list(roles or ("access",)), traits={"logins": list(logins)})
        )
        form = await self.admin.call(GetSignup(token=made.token))
        secret = base64.b32decode(form.otp_secret + "=" * (-len(form.otp_secret) % 8))
        user = User(name, secret, new_ssh_key(), new_tls_key(), 0)
        await self.admin.call(FinishSignup(token=made.token, password=PASSWORD, otp=user.code(self.clock)))
        if login:
            user.certs = await self.login(user)
        return user

    async def login(self, user: User, client: RpcClient | None = None, **fields: Any) -> UserCerts:
        return await (client or self.admin).call(
            Login(
                **{
                    "user": user.name,
                    "password": PASSWORD,
                    "otp": user.code(self.clock) if "otp" not in fields else "",
                    "ssh_public_key": user.ssh_key.public_line,
                    "tls_public_key": user.tls_key.public_pem,
                    **fields,
                }
            )
        )

    async def join(
        self, role: SystemRole = SystemRole.NODE, client: RpcClient | None = None, **fields: Any
    ) -> Host:
        ssh_key, tls_key = new_ssh_key(), new_tls_key()
        certs = await (client or self.admin).call(
            Join(
                **{
                    "token": TOKEN if role is SystemRole.NODE else f"proxy-{TOKEN}",
                    "role": role,
                    "host_id": str(uuid.uuid4()),
                    "node_name": "node-1",
                    "ssh_public_key": ssh_key.public_line,
                    "tls_public_key": tls_key.public_pem,
                    **fields,
                }
            )
        )
        return Host(certs, ssh_key, tls_key)


def new_keys() -> dict[str, str]:
    """Public keys of nobody, as the fields of a request."""
    return {"ssh_public_key": new_ssh_key().public_line, "tls_public_key": new_tls_key().public_pem}


def event(kit: Kit, kind: Kind = codes.SESSION_START, **fields: object) -> Event:
    return new_event(kind, cluster_name="forged", now=kit.clock.now(), ei=0, **fields)  # type: ignore[arg-type]


async def stored(client: RpcClient, *types: str) -> list[Event]:
    return [e.event async for c in client.stream(SearchEvents(types=list(types))) for e in c.events]


async def session(kit: Kit, host: Host, user: str = "mira", **fields: object) -> str:
    """A session that the host told the Auth Service about."""
    sid = str(uuid.uuid4())
    start = event(kit, sid=sid, user=user, login="root", server_hostname="node-1", **fields)
    await kit.as_host(host).call(EmitEvents(events=[start]))
    return sid


async def chunks(*parts: bytes) -> AsyncIterator[bytes]:
    for part in parts:
        yield part


async def downloaded(client: RpcClient, sid: str) -> bytes:
    return b"".join([c.data async for c in client.stream(DownloadRecording(session_id=sid))])


async def recordings(client: RpcClient) -> list[RecordingInfo]:
    return [r async for c in client.stream(ListRecordings()) for r in c.recordings]


async def listed(client: RpcClient, kind: str, **fields: Any) -> list[Resource]:
    chunks = client.stream(ListResources(kind=kind, **fields))
    return [resource async for chunk in chunks for resource in chunk.resources]


@asynccontextmanager
async def auth(data_dir: Path, *, extra: str = "", teleport: str = "") -> AsyncIterator[Kit]:
    text = CONFIG.format(
        data_dir=data_dir, token=TOKEN, extra=extra, teleport=f", {teleport}" if teleport else ""
    )
    clock = Clock()
    data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
    process = Process(
        config=parse_config(text),
        name="auth",
        data_dir=data_dir,
        log=logging.getLogger("auth"),
        clock=clock,
    )
    service = AuthService(process)
    await service.open()
    await service.serve()
    try:
        async with AsyncExitStack() as stack:
            kit = Kit(service, clock, data_dir, stack)
            kit.admin = RpcClient(Endpoint(unix_path=str(data_dir / "auth.sock"), ssl_context=None))
            stack.push_async_callback(kit.admin.close)
            yield kit
    finally:
        await service.close()


def run(body: Callable[[], Coroutine[Any, Any, T]], deadline_s: float = 60.0) -> T:
    """Run a test's body on the event loop the services use, with a deadline."""

    async def bounded() -> T:
        async with asyncio.timeout(deadline_s):
            return await body()

    return uvloop.run(bounded())


def role(name: str, allow: Conditions, **options: object) -> Role:
    return Role(metadata=Metadata(name=name), spec=RoleSpec(allow=allow, options=RoleOptions(**options)))  # type: ignore[arg-type]


async def events(kit: Kit, *types: str) -> list[dict[str, object]]:
    found = kit.admin.stream(SearchEvents(types=list(types)))
    return [
        {"event": e.event.event, "code": e.event.code, **e.event.fields}
        async for c in found
        for e in c.events
    ]
