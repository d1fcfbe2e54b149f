"""Clients of the proxy's public port that say what they like, from where they like."""

from __future__ import annotations

import asyncio
import socket
import ssl
from typing import Any

import pytest

from pkgs.common.api.tunnel import UserDial
from pkgs.common.errors import DeniedError, UnavailableError
from pkgs.common.net.dial import split_host_port
from pkgs.common.net.framing import encode_frame
from pkgs.common.net.handshake import start_tls
from pkgs.common.net.stream import Stream
from pkgs.common.net.tls import client_context
from tests.integration.proxy_kit import (
    PROXY_NAME,
    Credentials,
    ProxyKit,
)


async def connect(addr: str, source: str = "127.0.0.1") -> socket.socket:
    """A plain connection from a loopback address of one's choice."""
    sock = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    sock.setblocking(False)
    sock.bind((source, 0))
    await asyncio.get_running_loop().sock_connect(sock, split_host_port(addr))
    return sock


async def dial_from(kit: ProxyKit, source: str, credentials: Credentials, target: str) -> Stream:
    sock = await connect(kit.addr, source)
    stream = await start_tls(sock, credentials.context("teleport-dial"), server_hostname=PROXY_NAME)
    stream.write(encode_frame(UserDial(target=target)))
    return stream


async def closed(stream: Stream) -> bool:
    """Whether the other side ends it."""
    try:
        while await stream.read_some():
            pass
    except UnavailableError:
        pass
    stream.abort()
    return True


async def https(kit: ProxyKit, request: bytes, source: str = "127.0.0.1") -> bytes:
    """A raw request; everything the server says until it closes."""
    sock = await connect(kit.addr, source)
    context = client_context(roots_pem=kit.authorities.roots, alpn=("http/1.1",))
    stream = await start_tls(sock, context, server_hostname="127.0.0.1")
    answer = b""
    try:
        stream.write(request)
        await stream.drain()
        while more := await stream.read_some():
            answer += more
    except UnavailableError:
        pass
    stream.abort()
    return answer


async def still_serves(kit: ProxyKit) -> None:
    answer = await https(kit, b"GET /healthz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
    assert answer.startswith(b"HTTP/1.1 200")


def client_hello(context: ssl.SSLContext) -> bytes:
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    connection = context.wrap_bio(incoming, outgoing, server_hostname="127.0.0.1")
    with pytest.raises(ssl.SSLWantReadError):
        connection.do_handshake()
    return outgoing.read()


def deny(request: Any) -> None:
    raise DeniedError("invalid username, password or one-time code")
