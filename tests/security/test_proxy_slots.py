"""Attacks A42 and A54 after the first bytes: nobody holds a place on the proxy by doing nothing."""

from __future__ import annotations

import asyncio
import socket
import ssl
import threading
from pathlib import Path

import pytest

from pkgs.common.errors import UnavailableError
from pkgs.common.net.dial import dial_tls, resolve
from pkgs.common.net.handshake import start_tls
from pkgs.common.net.listener import Accepted, Listener, bind
from pkgs.common.net.sockets import split_host_port
from pkgs.common.net.stream import adopt
from pkgs.common.net.tls import client_context
from pkgs.proxy import limits
from tests.harness.wait import until
from tests.integration.proxy_kit import PROXY_NAME, ProxyKit, proxy, run


def served(kit: ProxyKit) -> int:
    """Connections that take up places on the public port."""
    return kit.service.connections


def hello(alpn: str) -> bytes:
    """A ClientHello and nothing after it."""
    outgoing = ssl.MemoryBIO()
    tls = client_context(roots_pem=None, alpn=(alpn,)).wrap_bio(
        ssl.MemoryBIO(), outgoing, server_hostname="x"
    )
    with pytest.raises(ssl.SSLWantReadError):
        tls.do_handshake()
    return outgoing.read()


def test_a54_who_stays_when_the_auth_service_has_hung_up_is_let_go(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "LINGER_S", 0.2)

    first = hello("teleport-auth@test")

    async def hang_up(accepted: Accepted) -> None:
        stream, got = await adopt(accepted.sock), b""
        while not got.endswith(first):
            got += await stream.read_some()
        await stream.close()

    async def body() -> None:
        auth = Listener(bind("127.0.0.1:0"), hang_up, hello=False)
        auth.start()
        async with proxy(tmp_path, auth_addrs=(auth.addresses[0],)) as kit:
            sock = socket.socket()
            sock.setblocking(False)
            await asyncio.get_running_loop().sock_connect(sock, split_host_port(kit.addr))
            sock.sendall(first)
            await until(lambda: served(kit) == 1)
            await until(lambda: served(kit) == 0, deadline_s=5)
            sock.close()
        await auth.close()

    run(body())


def test_a54_who_stays_when_the_ssh_server_has_hung_up_is_let_go(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "LINGER_S", 0.2)

    class Door:
        async def serve(self, sock: socket.socket, remote_addr: str) -> None:
            stream = await adopt(sock)
            stream.write(b"too slow\r\n")
            await stream.close()

    async def body() -> None:
        async with proxy(tmp_path, ssh=Door()) as kit:
            context = client_context(roots_pem=kit.authorities.roots, alpn=("teleport-proxy-ssh",))
            stream = await dial_tls(kit.addr, context, server_hostname=PROXY_NAME)
            assert await stream.read_exactly(10) == b"too slow\r\n"
            await until(lambda: served(kit) == 0, deadline_s=5)
            stream.abort()

    run(body())


def test_a54_who_does_not_read_the_answers_is_let_go(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "ANSWER_TAKEN_S", 0.3)

    async def body() -> None:
        async with proxy(tmp_path) as kit:
            sock = socket.socket()
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            sock.setblocking(False)
            await asyncio.get_running_loop().sock_connect(sock, split_host_port(kit.addr))
            context = client_context(roots_pem=kit.authorities.roots, alpn=("http/1.1",))
            stream = await start_tls(sock, context, server_hostname="127.0.0.1")
            request = b"GET /webapi/ping HTTP/1.1\r\nHost: x\r\n\r\n"
            with pytest.raises(UnavailableError):
                async with asyncio.timeout(8):
                    while True:
                        stream.write(request * 100)
                        await stream.drain()
            stream.abort()
            await until(lambda: served(kit) == 0, deadline_s=5)

    run(body())


def test_a_name_that_does_not_resolve_in_time_holds_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    """An agent chooses the address that it registers, so also the name server that is asked."""
    release = threading.Event()

    async def body() -> None:
        loop = asyncio.get_running_loop()

        def stuck(*_: object, **__: object) -> object:
            return loop.run_in_executor(None, release.wait, 10)

        monkeypatch.setattr(loop, "getaddrinfo", stuck)
        with pytest.raises(UnavailableError, match="in time"):
            await resolve("slow.example", 22, deadline_s=0.2)
        release.set()

    run(body())
