"""Strangers who take every place there is: one source must not keep the others out (attacks A42, A54)."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl

from pkgs.common.rpc.client import RpcClient
from pkgs.common.rpc.limits import ServerLimits
from tests.harness.wait import until
from tests.integration.rpc_kit import Cluster, WhoAmI, cluster, run

FEW = ServerLimits(handshaking=8, anonymous_connections=8, tick_s=0.1)
MANY = 24
"""Well above all places there are."""


def hello() -> bytes:
    """A ClientHello, after which nothing follows."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    out = ssl.MemoryBIO()
    tls = context.wrap_bio(ssl.MemoryBIO(), out, server_hostname="auth.teleport.cluster.local")
    with contextlib.suppress(ssl.SSLWantReadError):
        tls.do_handshake()
    return out.read()


async def connected(c: Cluster, source: str) -> socket.socket:
    sock = socket.socket()
    sock.setblocking(False)
    sock.bind((source, 0))
    await asyncio.get_running_loop().sock_connect(sock, ("127.0.0.1", c.port))
    return sock


async def call_from(c: Cluster, source: str, name: str | None) -> str:
    """An honest call from an address."""
    _, writer = await asyncio.open_connection(
        "127.0.0.1",
        c.port,
        ssl=c.authority.client_context(name),
        server_hostname="auth.teleport.cluster.local",
        local_addr=(source, 0),
    )
    writer.transport.abort()
    return "shook hands"


def test_a54_half_handshakes_of_one_source_keep_nobody_else_out() -> None:
    async def main() -> None:
        async with cluster(FEW) as c:
            first = hello()
            held = [await connected(c, "127.0.0.2") for _ in range(MANY)]
            for sock in held:
                await asyncio.get_running_loop().sock_sendall(sock, first)
            await until(lambda: len(c.server._handshaking) >= 2)
            assert await call_from(c, "127.0.0.3", "alice") == "shook hands"
            async with c.client() as client:
                assert (await client.call(WhoAmI())).text == "alice"
            for sock in held:
                sock.close()
            await until(lambda: len(c.server._handshaking) == 0)

    run(main)


def test_a54_nameless_connections_of_one_source_keep_no_joining_host_out() -> None:
    async def main() -> None:
        async with cluster(FEW) as c:
            held = []
            for _ in range(MANY):
                _, writer = await asyncio.open_connection(
                    "127.0.0.1",
                    c.port,
                    ssl=c.authority.client_context(None),
                    server_hostname="auth.teleport.cluster.local",
                    local_addr=("127.0.0.2", 0),
                )
                held.append(writer)
            await until(lambda: c.server.connections >= 1)
            client = RpcClient(c.endpoint(None))
            assert (await client.call(WhoAmI())).text == "nobody"
            await client.close()
            for writer in held:
                writer.transport.abort()
            await until(lambda: c.server.connections == 0)
            assert len(c.server._strangers) == 0
            assert not c.server._held

    run(main)
