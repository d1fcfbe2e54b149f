"""Calls per second through TLS and guard, beside plain ZeroMQ and grpc.aio with TLS, in the same run.

The same 291-byte MessagePack body travels both ways in all three. Servers are processes of their own, the
client is this one. Plain ZeroMQ is a DEALER and a ROUTER over TCP, without TLS, driven by file descriptor
on uvloop: the least that a Python call over ZeroMQ can cost.
"""

from __future__ import annotations

import asyncio
import ctypes
import json
import os
import resource
import signal
import socket
import ssl
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import grpc
import msgspec
import uvloop
import zmq

from pkgs.common.pki.identity import Identity
from pkgs.common.rpc.calls import Callers
from pkgs.common.rpc.client import Endpoint, RpcClient
from pkgs.common.rpc.limits import ServerLimits
from pkgs.common.rpc.server import Registry, RpcServer
from tests.bench.report import Row, percentile, table
from tests.integration.rpc_kit import SERVER_NAME, Authority, Echo, Parts, identify

OUTSTANDING = (1, 16, 128)
BODY_BYTES = 291
GOAL_AT_16 = 15_000.0
SECONDS = 3.0
ROUNDS = 3
_GRPC_METHOD = "/bench.Echo/Say"

Send = Callable[[], Awaitable[Any]]


def _request() -> Echo:
    fixed = len(msgspec.msgpack.encode(Echo(text="x" * 200, number=7)))
    return Echo(text="x" * (200 + BODY_BYTES - fixed), number=7)


BODY = msgspec.msgpack.encode(_request())


# the servers


async def _serve_ours(folder: Path, authority: Authority) -> None:
    def known(der: bytes | None) -> Identity | None:
        return identify(der)

    registry = Registry()
    registry.register(Echo, Parts().echo, callers=Callers.USER)
    server = RpcServer(registry, identify=known, limits=ServerLimits())
    await server.start(folder)
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listener.bind(("127.0.0.1", 0))
    listener.listen(64)
    listener.setblocking(False)
    context = authority.server_context()
    loop = asyncio.get_running_loop()
    print(listener.getsockname()[1], flush=True)
    tasks = set()
    while True:
        sock, address = await loop.sock_accept(listener)
        tasks.add(loop.create_task(server.serve_tls_socket(sock, context, address[0])))


async def _serve_zmq(folder: Path, authority: Authority) -> None:
    router = zmq.Context.instance().socket(zmq.ROUTER)
    print(router.bind_to_random_port("tcp://127.0.0.1"), flush=True)
    loop = asyncio.get_running_loop()

    def drain() -> None:
        while True:
            try:
                parts = router.recv_multipart(zmq.NOBLOCK)
            except zmq.Again:
                break
            router.send_multipart(parts, zmq.NOBLOCK)
        if router.getsockopt(zmq.EVENTS) & zmq.POLLIN:
            loop.call_soon(drain)

    loop.add_reader(router.getsockopt(zmq.FD), drain)
    await asyncio.Event().wait()


async def _serve_grpc(folder: Path, authority: Authority) -> None:
    async def say(request: bytes, _context: Any) -> bytes:
        return msgspec.msgpack.encode(msgspec.msgpack.decode(request, type=Echo))

    server = grpc.aio.server()
    handler = grpc.unary_unary_rpc_method_handler(say)
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("bench.Echo", {"Say": handler}),))
    cert, key = (folder / "server.pem").read_bytes(), (folder / "server.key").read_bytes()
    port = server.add_secure_port(
        "127.0.0.1:0",
        grpc.ssl_server_credentials(
            [(key, cert)], root_certificates=authority.pem.encode(), require_client_auth=True
        ),
    )
    await server.start()
    print(port, flush=True)
    await asyncio.Event().wait()


# the clients: each gives a function that makes one call


@asynccontextmanager
async def _client(kind: str, port: int, folder: Path) -> AsyncIterator[Send]:
    loop = asyncio.get_running_loop()
    if kind == "ours":
        context = ssl.create_default_context(cafile=str(folder / "ca.pem"))
        context.load_cert_chain(folder / "alice.pem", folder / "alice.key")
        client = RpcClient(
            Endpoint(host="127.0.0.1", port=port, ssl_context=context, server_hostname=SERVER_NAME)
        )
        request = _request()
        yield lambda: client.call(request)
        await client.close()
    elif kind == "zmq":
        dealer = zmq.Context.instance().socket(zmq.DEALER)
        dealer.connect(f"tcp://127.0.0.1:{port}")
        waiting: dict[bytes, asyncio.Future[bytes]] = {}
        count = iter(range(2**60))

        def drain() -> None:
            while True:
                try:
                    call_id, body = dealer.recv_multipart(zmq.NOBLOCK)
                except zmq.Again:
                    return
                waiting.pop(call_id).set_result(body)

        def recheck() -> None:
            if dealer.getsockopt(zmq.EVENTS) & zmq.POLLIN:
                drain()

        def send() -> Awaitable[bytes]:
            call_id = b"%d" % next(count)
            future = waiting[call_id] = loop.create_future()
            dealer.send_multipart((call_id, BODY), zmq.NOBLOCK)
            loop.call_soon(recheck)
            return future

        loop.add_reader(dealer.getsockopt(zmq.FD), drain)
        yield send
        loop.remove_reader(dealer.getsockopt(zmq.FD))
        dealer.close(0)
    else:
        credentials = grpc.ssl_channel_credentials(
            (folder / "ca.pem").read_bytes(),
            (folder / "alice.key").read_bytes(),
            (folder / "alice.pem").read_bytes(),
        )
        channel = grpc.aio.secure_channel(
            f"127.0.0.1:{port}", credentials, [("grpc.ssl_target_name_override", SERVER_NAME)]
        )
        say = channel.unary_unary(_GRPC_METHOD)
        yield lambda: say(BODY)
        await channel.close()


async def _measure(kind: str, port: int, folder: Path, seconds: float) -> dict[str, Any]:
    """Best of a few rounds for each number of outstanding calls."""
    found: dict[str, Any] = {}
    async with _client(kind, port, folder) as send:
        await send()
        for outstanding in OUTSTANDING:
            best: dict[str, float] = {"per_s": 0.0}
            for _ in range(ROUNDS):
                took: list[float] = []
                end = time.perf_counter() + seconds / ROUNDS

                async def caller(took: list[float] = took, end: float = end) -> None:
                    now = time.perf_counter()
                    while now < end:
                        await send()
                        then, now = now, time.perf_counter()
                        took.append(now - then)

                began = time.perf_counter()
                await asyncio.gather(*(caller() for _ in range(outstanding)))
                per_s = len(took) / (time.perf_counter() - began)
                if per_s > best["per_s"]:
                    best = {
                        "per_s": per_s,
                        "p50_us": percentile(took, 0.5) * 1e6,
                        "p99_us": percentile(took, 0.99) * 1e6,
                    }
            found[str(outstanding)] = best
    return found


def _cpu_s(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _one(kind: str, seconds: float, folder: Path) -> dict[str, Any]:
    server = subprocess.Popen(
        [sys.executable, "-m", "tests.bench.bench_rpc", "serve", kind, str(folder)],
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert server.stdout is not None
        port = int(server.stdout.readline())
        cpu, own = _cpu_s(server.pid), resource.getrusage(resource.RUSAGE_SELF)
        loop = uvloop.new_event_loop if kind != "grpc" else asyncio.new_event_loop
        with asyncio.Runner(loop_factory=loop) as runner:
            found = runner.run(_measure(kind, port, folder, seconds))
        now = resource.getrusage(resource.RUSAGE_SELF)
        found["server_cpu_s"] = round(_cpu_s(server.pid) - cpu, 2)
        found["client_cpu_s"] = round(now.ru_utime + now.ru_stime - own.ru_utime - own.ru_stime, 2)
        return found
    finally:
        server.terminate()
        server.wait(10)
        if server.stdout is not None:
            server.stdout.close()


def _write_files(folder: Path) -> None:
    authority = Authority()
    (folder / "ca.pem").write_text(authority.pem)
    for name, names in (("alice", []), ("server", [SERVER_NAME])):
        cert, key = authority.issue(name, names)
        (folder / f"{name}.pem").write_bytes(cert)
        (folder / f"{name}.key").write_bytes(key)


def measure(seconds: float, kinds: tuple[str, ...] = ("ours", "zmq", "grpc")) -> dict[str, Any]:
    """Figures by kind and number of outstanding calls."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        _write_files(folder)
        return {kind: _one(kind, seconds, folder) for kind in kinds}


def run(*, full: bool = True) -> list[Row]:
    """The rows for `make bench`."""
    found = measure(SECONDS if full else 1.0)
    rows = []
    for outstanding in map(str, OUTSTANDING):
        ours = found["ours"][outstanding]
        for kind, name in (("zmq", "plain ZeroMQ, no TLS"), ("grpc", "grpc.aio, mTLS")):
            goal = outstanding == "16" and kind == "zmq"
            rows.append(
                Row(
                    measure=f"calls/s with {outstanding} outstanding, TLS + guard",
                    ours=ours["per_s"],
                    unit="/s",
                    reference=found[kind][outstanding]["per_s"],
                    reference_name=name,
                    goal=f">= {GOAL_AT_16:,.0f}/s" if goal else "",
                    met=ours["per_s"] >= GOAL_AT_16 if goal else None,
                    note=f"p50 {ours['p50_us']:.0f} us, p99 {ours['p99_us']:.0f} us",
                )
            )
    return rows


class _FileAuthority(Authority):
    """The authority of the parent process, as far as a server needs it."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.pem = (folder / "ca.pem").read_text()

    def server_context(self) -> Any:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = ssl.TLSVersion.TLSv1_3
        context.verify_mode = ssl.CERT_OPTIONAL
        context.load_verify_locations(cadata=self.pem)
        context.load_cert_chain(self._folder / "server.pem", self._folder / "server.key")
        return context


def _serve(kind: str, folder: Path) -> None:
    ctypes.CDLL(None).prctl(1, signal.SIGTERM)  # PR_SET_PDEATHSIG: no server outlives the bench
    main = {"ours": _serve_ours, "zmq": _serve_zmq, "grpc": _serve_grpc}[kind]
    loop = uvloop.new_event_loop if kind != "grpc" else asyncio.new_event_loop
    signal.signal(signal.SIGTERM, lambda *_: os._exit(0))
    with asyncio.Runner(loop_factory=loop) as runner:
        runner.get_loop().add_signal_handler(signal.SIGTERM, lambda: os._exit(0))
        runner.run(main(folder, _FileAuthority(folder)))


if __name__ == "__main__":
    if sys.argv[1:2] == ["serve"]:
        _serve(sys.argv[2], Path(sys.argv[3]))
    else:
        kinds = tuple(sys.argv[1:]) or ("ours", "zmq", "grpc")
        if len(kinds) == 3:
            print(table(run(full=True)))
        else:
            print(json.dumps(measure(SECONDS, kinds), indent=1))
