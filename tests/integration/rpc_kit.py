"""A small RPC server with its own certificate authority, for the tests and the bench of common/rpc."""

from __future__ import annotations

import asyncio
import datetime
import ipaddress
import socket
import ssl
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, TypeVar

import msgspec
import uvloop
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from pkgs.common.errors import NotFoundError, TrustError
from pkgs.common.pki.identity import Identity, PeerKind, SystemRole
from pkgs.common.rpc.calls import Caller, Callers, Request, StreamRequest, UploadRequest
from pkgs.common.rpc.client import Endpoint, RpcClient
from pkgs.common.rpc.limits import ClientLimits, ServerLimits
from pkgs.common.rpc.server import Registry, RpcServer

SERVER_NAME = "auth.teleport.cluster.local"
QUICK = ClientLimits(backoff_first_s=0.02, backoff_max_s=0.1, dial_s=2.0)
T = TypeVar("T")


class Said(msgspec.Struct, frozen=True):
    text: str
    number: int = 0


class Echo(Request[Said], frozen=True, kw_only=True):
    text: str
    number: int = 0


class WhoAmI(Request[Said], frozen=True, kw_only=True):
    """For anybody."""


class Missing(Request[Said], frozen=True, kw_only=True):
    """Always not found."""


class Crash(Request[Said], frozen=True, kw_only=True):
    """Fails with something unexpected."""


class Sleep(Request[Said], frozen=True, kw_only=True):
    """Never answers by itself."""


class Count(Request[Said], frozen=True, kw_only=True):
    """Changes state: the answer is how often it ran."""

    slow: bool = False


class Tree(Request[Said], frozen=True, kw_only=True):
    """Takes anything."""

    root: Any


class Numbers(StreamRequest[Said], frozen=True, kw_only=True):
    upto: int
    text: str = ""
    fail_at: int = -1


class Collect(UploadRequest[Said], frozen=True, kw_only=True):
    stop_after: int = -1


class Parts:
    """The handlers, and what they noticed."""

    def __init__(self) -> None:
        self.started = 0
        self.cancelled = asyncio.Event()
        self.stream_ended = asyncio.Event()
        self.produced = 0
        self.collected = 0
        self.counted = 0
        self.go = asyncio.Event()

    async def echo(self, caller: Caller, request: Echo) -> Said:
        self.started += 1
        return Said(request.text, request.number)

    async def who(self, caller: Caller, request: WhoAmI) -> Said:
        self.started += 1
        if caller.admin:
            return Said("admin")
        return Said(caller.identity.name if caller.identity else "nobody")

    async def missing(self, caller: Caller, request: Missing) -> Said:
        raise NotFoundError("no such thing", detail="only for the log", hint="look elsewhere")

    async def crash(self, caller: Caller, request: Crash) -> Said:
        raise RuntimeError("the secret is hunter2")

    async def sleep(self, caller: Caller, request: Sleep) -> Said:
        self.started += 1
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            self.cancelled.set()
            raise
        return Said("never")

    async def count(self, caller: Caller, request: Count) -> Said:
        self.counted += 1
        if request.slow:
            await self.go.wait()
        return Said("ran", self.counted)

    async def tree(self, caller: Caller, request: Tree) -> Said:
        self.started += 1
        return Said("ok")

    async def numbers(self, caller: Caller, request: Numbers) -> AsyncIterator[Said]:
        try:
            for number in range(request.upto):
                if number == request.fail_at:
                    raise NotFoundError("the numbers end here")
                self.produced += 1
                yield Said(request.text, number)
        finally:
            self.stream_ended.set()

    async def collect(self, caller: Caller, request: Collect, chunks: AsyncIterator[bytes]) -> Said:
        seen = 0
        async for chunk in chunks:
            self.collected += 1
            seen += len(chunk)
            if 0 <= request.stop_after <= seen:
                break
            if request.stop_after == -2:
                await self.go.wait()
        return Said("got", seen)


def registry(parts: Parts) -> Registry:
    found = Registry()
    known = Callers.USER | Callers.HOST | Callers.ADMIN
    found.register(Echo, parts.echo, callers=known)
    found.register(WhoAmI, parts.who, callers=known | Callers.NOBODY)
    found.register(Missing, parts.missing, callers=known)
    found.register(Crash, parts.crash, callers=known)
    found.register(Sleep, parts.sleep, callers=known)
    found.register(Count, parts.count, callers=known)
    found.register(Tree, parts.tree, callers=known)
    found.register(Numbers, parts.numbers, callers=known)
    found.register(Collect, parts.collect, callers=known)
    return found


class Authority:
    """A throw-away certificate authority."""

    def __init__(self, name: str = "test CA") -> None:
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        self.cert = self._sign(self._name, self._key.public_key(), ca=True, names=[])
        self.pem = self.cert.public_bytes(serialization.Encoding.PEM).decode()

    def _sign(
        self, subject: x509.Name, public_key: ec.EllipticCurvePublicKey, *, ca: bool, names: list[str]
    ) -> x509.Certificate:
        now = datetime.datetime.now(datetime.UTC)
        builder = (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(self._name)
            .public_key(public_key)
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - datetime.timedelta(minutes=1))
            .not_valid_after(now + datetime.timedelta(hours=1))
            .add_extension(x509.BasicConstraints(ca=ca, path_length=None), critical=True)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(public_key), critical=False)
            .add_extension(
                x509.AuthorityKeyIdentifier.from_issuer_public_key(self._key.public_key()), critical=False
            )
            .add_extension(
                x509.KeyUsage(
                    digital_signature=True,
                    content_commitment=False,
                    key_encipherment=False,
                    data_encipherment=False,
                    key_agreement=False,
                    key_cert_sign=ca,
                    crl_sign=ca,
                    encipher_only=False,
                    decipher_only=False,
                ),
                critical=True,
            )
        )
        if names:
            builder = builder.add_extension(
                x509.SubjectAlternativeName(
                    [
                        *(x509.DNSName(name) for name in names),
                        x509.IPAddress(ipaddress.ip_address("127.0.0.1")),
                    ]
                ),
                critical=False,
            )
        return builder.sign(self._key, hashes.SHA256())

    def issue(self, name: str, names: list[str] | None = None) -> tuple[bytes, bytes]:
        """Certificate and key, PEM."""
        key = ec.generate_private_key(ec.SECP256R1())
        cert = self._sign(
            x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)]),
            key.public_key(),
            ca=False,
            names=names or [],
        )
        return (
            cert.public_bytes(serialization.Encoding.PEM),
            key.private_bytes(
                serialization.Encoding.PEM,
                serialization.PrivateFormat.PKCS8,
                serialization.NoEncryption(),
            ),
        )

    def server_context(self) -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = ssl.TLSVersion.TLSv1_3
        context.verify_mode = ssl.CERT_OPTIONAL
        context.load_verify_locations(cadata=self.pem)
        _load(context, *self.issue("server", [SERVER_NAME]))
        return context

    def client_context(self, name: str | None) -> ssl.SSLContext:
        """None: without a certificate."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.minimum_version = ssl.TLSVersion.TLSv1_3
        context.load_verify_locations(cadata=self.pem)
        if name is not None:
            _load(context, *self.issue(name))
        return context


def _load(context: ssl.SSLContext, cert: bytes, key: bytes) -> None:
    with tempfile.NamedTemporaryFile() as file:
        file.write(cert + key)
        file.flush()
        context.load_cert_chain(file.name)


def identify(der: bytes | None) -> Identity | None:
    """Names that begin with `host-` are hosts, `banned` is refused, the rest are users."""
    if der is None:
        return None
    subject = x509.load_der_x509_certificate(der).subject
    name = str(subject.get_attributes_for_oid(NameOID.COMMON_NAME)[0].value)
    if name == "banned":
        raise TrustError("banned")
    if name.startswith("host-"):
        return Identity(
            kind=PeerKind.HOST, name=name, cluster="demo", system_roles=(SystemRole.NODE,), expires_at=4e9
        )
    expires_at = 1.0 if name == "expired" else 4e9
    source = "192.0.2.9" if name == "elsewhere" else ""
    return Identity(kind=PeerKind.USER, name=name, cluster="demo", expires_at=expires_at, source_addr=source)


class Cluster:
    """A running server on loopback and everything needed to call it."""

    def __init__(
        self, server: RpcServer, parts: Parts, authority: Authority, listener: socket.socket
    ) -> None:
        self.server = server
        self.parts = parts
        self.authority = authority
        self.listener = listener
        self.port: int = listener.getsockname()[1]
        self.context = authority.server_context()
        self.unix_path = Path()
        self._tasks: set[asyncio.Task[None]] = set()

    async def accept(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            sock, address = await loop.sock_accept(self.listener)
            task = loop.create_task(self.server.serve_tls_socket(sock, self.context, address[0]))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def settle(self) -> None:
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def endpoint(self, name: str | None = "alice") -> Endpoint:
        return Endpoint(
            host="127.0.0.1",
            port=self.port,
            ssl_context=self.authority.client_context(name),
            server_hostname=SERVER_NAME,
        )

    @asynccontextmanager
    async def client(
        self, name: str | None = "alice", *, limits: ClientLimits | None = None, **more: Any
    ) -> AsyncIterator[RpcClient]:
        client = RpcClient(self.endpoint(name), limits=limits, **more)
        try:
            yield client
        finally:
            await client.close()

    async def raw(self, name: str | None = "alice") -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """A TLS connection that speaks whatever the test wants."""
        return await asyncio.open_connection(
            "127.0.0.1",
            self.port,
            ssl=self.authority.client_context(name),
            server_hostname=SERVER_NAME,
        )


@asynccontextmanager
async def cluster(limits: ServerLimits | None = None) -> AsyncIterator[Cluster]:
    parts = Parts()
    server = RpcServer(registry(parts), identify=identify, limits=limits)
    with tempfile.TemporaryDirectory() as folder:
        await server.start(Path(folder))
        listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(("127.0.0.1", 0))
        listener.listen(1024)
        listener.setblocking(False)
        found = Cluster(server, parts, Authority(), listener)
        found.unix_path = Path(folder) / "auth.sock"
        await server.listen_unix(found.unix_path)
        accepting = asyncio.get_running_loop().create_task(found.accept())
        try:
            yield found
        finally:
            accepting.cancel()
            await asyncio.gather(accepting, return_exceptions=True)
            await found.settle()
            await server.close()
            listener.close()
            await asyncio.sleep(0)


def run(main: Callable[[], Coroutine[Any, Any, T]] | Callable[[], Awaitable[T]]) -> T:
    """Run a test on the loop that the services use, with an overall deadline."""

    async def bounded() -> T:
        async with asyncio.timeout(120):
            return await main()

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(bounded())


async def chunks(count: int, size: int) -> AsyncIterator[bytes]:
    for _ in range(count):
        yield b"x" * size
