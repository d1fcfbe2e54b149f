"""The relay: TLS in, TLS out, beside the same relay made of the event loop's own TLS transports.

A source and a sink in processes of their own push bytes through one relay process, whose CPU time is
counted. On two cores three processes compete, so CPU per gigabyte is the steadier figure.
"""

from __future__ import annotations

import asyncio
import contextlib
import multiprocessing
import os
import socket
import time
from collections.abc import Callable, Coroutine
from multiprocessing.connection import Connection
from typing import Any

import uvloop

from pkgs.common.net.dial_blocking import dial_tls
from pkgs.common.net.handshake import accept_tls, start_tls
from pkgs.common.net.relay import relay
from tests.bench.report import Row
from tests.unit.net import certs

_CHUNK = 64 * 1024
Relay = Callable[[socket.socket, socket.socket], Coroutine[Any, Any, None]]


async def _ours(accepted: socket.socket, upstream: socket.socket) -> None:
    client = await accept_tls(accepted, certs.server())
    server = await start_tls(upstream, certs.client(), server_hostname=certs.SERVER_NAME)
    await relay(client, server)


class _Side(asyncio.Protocol):
    """One end of the reference relay: a pair that pauses each other."""

    def __init__(self) -> None:
        self.transport: Any = None
        self.peer: _Side | None = None
        self.over: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: Any) -> None:
        self.transport = transport
        transport.set_write_buffer_limits(high=1 << 20)
        if self.peer is None:
            transport.pause_reading()

    def data_received(self, data: bytes) -> None:
        assert self.peer is not None
        self.peer.transport.write(data)

    def pause_writing(self) -> None:
        if self.peer is not None:
            self.peer.transport.pause_reading()

    def resume_writing(self) -> None:
        if self.peer is not None:
            self.peer.transport.resume_reading()

    def connection_lost(self, exc: Exception | None) -> None:
        if self.peer is not None:
            self.peer.transport.close()
        if not self.over.done():
            self.over.set_result(None)


async def _transports(accepted: socket.socket, upstream: socket.socket) -> None:
    loop = asyncio.get_running_loop()
    client, server = _Side(), _Side()
    await loop.connect_accepted_socket(lambda: client, accepted, ssl=certs.server())
    await loop.create_connection(
        lambda: server, sock=upstream, ssl=certs.client(), server_hostname=certs.SERVER_NAME
    )
    client.peer, server.peer = server, client
    client.transport.resume_reading()
    server.transport.resume_reading()
    await asyncio.gather(client.over, server.over)


def _relay_process(kind: Relay, listening: socket.socket, port: int, report: Connection) -> None:
    async def body() -> None:
        accepted, _ = listening.accept()
        upstream = socket.create_connection(("127.0.0.1", port))
        for sock in (accepted, upstream):
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            sock.setblocking(False)
        began = time.process_time()
        await kind(accepted, upstream)
        report.send(time.process_time() - began)

    uvloop.run(body())


def _sink_process(listening: socket.socket, report: Connection) -> None:
    raw, _ = listening.accept()
    received, buffer = 0, bytearray(_CHUNK)
    with certs.server().wrap_socket(raw, server_side=True) as sock:
        began = time.monotonic()
        with contextlib.suppress(OSError):
            while count := sock.recv_into(buffer):
                received += count
    report.send((received, time.monotonic() - began))


def _measure(kind: Relay, total: int) -> tuple[float, float]:
    """MB/s, and CPU seconds of the relay per GB."""
    certs.pair(certs.SERVER_NAME)  # made before the fork, so that all processes share it
    context = multiprocessing.get_context("fork")
    cpu_in, cpu_out = context.Pipe(duplex=False)
    sink_in, sink_out = context.Pipe(duplex=False)
    with socket.create_server(("127.0.0.1", 0)) as sink, socket.create_server(("127.0.0.1", 0)) as front:
        workers = [
            context.Process(target=_sink_process, args=(sink, sink_out)),
            context.Process(target=_relay_process, args=(kind, front, sink.getsockname()[1], cpu_out)),
        ]
        for worker in workers:
            worker.start()
        sock = dial_tls(
            f"127.0.0.1:{front.getsockname()[1]}", roots_pem=certs.roots(), server_hostname=certs.SERVER_NAME
        )
        data = os.urandom(_CHUNK)
        for _ in range(total // _CHUNK):
            sock.sendall(data)
        with contextlib.suppress(OSError):
            sock.unwrap()
        sock.close()
        received, seconds = sink_in.recv()
        cpu_s = cpu_in.recv()
        for worker in workers:
            worker.join(10)
    assert received == total // _CHUNK * _CHUNK
    return received / 1e6 / seconds, cpu_s / (received / 1e9)


def run(*, full: bool = True) -> list[Row]:
    """Best of some passes of each, taking turns."""
    total = (1000 if full else 200) * 1_000_000
    ours: list[tuple[float, float]] = []
    reference: list[tuple[float, float]] = []
    for _ in range(3 if full else 1):
        ours.append(_measure(_ours, total))
        reference.append(_measure(_transports, total))
    fastest, thriftiest = max(one[0] for one in ours), min(one[1] for one in ours)
    other_fastest, other_thriftiest = max(one[0] for one in reference), min(one[1] for one in reference)
    name = "uvloop TLS transports"
    return [
        Row("relay TLS to TLS, one stream", fastest, "MB/s", other_fastest, name),
        Row("relay TLS to TLS, relay's CPU", thriftiest, "CPU-s/GB", other_thriftiest, name),
    ]
