"""A new stream before it is known what its client speaks: one interface over the two ways in."""

from __future__ import annotations

import asyncio
import socket
from typing import Protocol

from pkgs.common.errors import UnavailableError
from pkgs.common.net.peek import PeerEnded, peek
from pkgs.common.net.stream import Stream, adopt


class Arrival(Protocol):
    """A stream of which nothing has been taken. Raises UnavailableError when it breaks or ends."""

    async def offer(self, data: bytes) -> None:
        """Send before the server's own first bytes."""

    async def peek(self, count: int) -> bytes:
        """The first bytes, which stay."""

    async def claim(self) -> Stream:
        """The stream itself: whoever claims it closes it."""


class FromTunnel:
    """A stream that came through a proxy's tunnel."""

    def __init__(self, stream: Stream) -> None:
        self._stream = stream

    async def offer(self, data: bytes) -> None:
        self._stream.write(data)
        await self._stream.drain()

    async def peek(self, count: int) -> bytes:
        return await self._stream.peek(count)

    async def claim(self) -> Stream:
        return self._stream


class FromListener:
    """A connection to our own port. Its socket may go to the connection's process as it is, so what is only
    looked at stays in the kernel."""

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock

    async def offer(self, data: bytes) -> None:
        try:
            await asyncio.get_running_loop().sock_sendall(self._sock, data)
        except OSError as exc:
            raise UnavailableError("the connection was lost", detail=str(exc)) from exc

    async def peek(self, count: int) -> bytes:
        try:
            return (await peek(self._sock, count, b""))[:count]
        except (OSError, PeerEnded) as exc:
            raise UnavailableError("the other side closed the connection", detail=str(exc)) from exc

    async def claim(self) -> Stream:
        return await adopt(self._sock)
