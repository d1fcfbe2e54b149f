"""From a socket to a TLS stream, within a deadline: the server's side and the client's."""

from __future__ import annotations

import asyncio
import socket
import ssl

from pkgs.common.errors import UnavailableError
from pkgs.common.net import limits
from pkgs.common.net.sockets import tune
from pkgs.common.net.stream import Stream


async def accept_tls(
    sock: socket.socket, context: ssl.SSLContext, *, deadline_s: float = limits.HANDSHAKE_S
) -> Stream:
    """The server's side of a TLS handshake on an accepted socket. The socket is closed on failure."""
    tune(sock)
    return await _handshaken(Stream(sock), context, True, "", deadline_s)


async def accept_tls_on(
    stream: Stream, context: ssl.SSLContext, *, deadline_s: float = limits.HANDSHAKE_S
) -> Stream:
    """The same on a raw stream, which may hold the beginning already. It is closed on failure."""
    return await _handshaken(stream, context, True, "", deadline_s)


async def start_tls(
    sock: socket.socket,
    context: ssl.SSLContext,
    *,
    server_hostname: str,
    deadline_s: float = limits.HANDSHAKE_S,
) -> Stream:
    """The client's side of a TLS handshake on a connected socket. The socket is closed on failure."""
    tune(sock)
    return await _handshaken(Stream(sock), context, False, server_hostname, deadline_s)


async def _handshaken(
    stream: Stream, context: ssl.SSLContext, server: bool, server_hostname: str, deadline_s: float
) -> Stream:
    try:
        async with asyncio.timeout(deadline_s):
            await stream.handshake(context, server=server, server_hostname=server_hostname)
    except TimeoutError as exc:
        stream.abort()
        raise UnavailableError("the TLS handshake took too long") from exc
    except BaseException:
        stream.abort()
        raise
    return stream
