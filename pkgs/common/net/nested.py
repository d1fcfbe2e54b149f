"""TLS inside a stream that is TLS itself, in one process and without a socket between the two.

A user's own TLS comes to an agent within the TLS of a tunnel. A pair of sockets and a relay between the two
would cost every byte two more system calls each way.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
from typing import cast

from pkgs.common.errors import UnavailableError
from pkgs.common.net import limits
from pkgs.common.net.scratch import scratch_of
from pkgs.common.net.stream import Stream


class _Below:
    """The lower stream as the upper one uses a socket: never blocking, taking no more than the network."""

    def __init__(self, stream: Stream) -> None:
        self.stream = stream
        self._wire = scratch_of(asyncio.get_running_loop()).wire

    def fileno(self) -> int:
        return self.stream.fileno()

    def getpeername(self) -> tuple[str, int]:
        return self.stream.peer_ip, self.stream.peer_port

    def recv(self, _: int) -> bytes:
        return bytes(self._wire[: self.recv_into(self._wire)])

    def recv_into(self, into: memoryview) -> int:
        count = self.stream.fill(into)
        if count < 0:
            raise BlockingIOError
        return count

    def send(self, data: memoryview | bytes) -> int:
        if self.stream.unsent and not self.stream.flush():
            raise BlockingIOError
        self.stream.push(data)
        return len(data)

    def shutdown(self, _: int) -> None:
        if not self.stream.unsent:
            self.stream.end_writing()

    def close(self) -> None:
        self.stream.abort()


class NestedStream(Stream):
    """Made by `accept_tls_over`; owns the stream below."""

    def __init__(self, below: Stream) -> None:
        # It takes the place of a socket in the few calls that a stream makes.
        super().__init__(cast(socket.socket, _Below(below)))
        self._below = below

    def fill(self, into: memoryview) -> int:
        while True:
            count = super().fill(into)
            # What the lower stream holds is announced by nothing else.
            if count != -1 or not self._below.holds_more:
                return count

    @property
    def holds_more(self) -> bool:
        return super().holds_more or self._below.holds_more

    @property
    def unsent(self) -> int:
        return super().unsent + self._below.unsent

    def flush(self) -> bool:
        mine = super().flush()
        return self._below.flush() and mine


async def accept_tls_over(
    below: Stream, context: ssl.SSLContext, *, deadline_s: float = limits.HANDSHAKE_S
) -> Stream:
    """The server's side of a TLS handshake on a stream, which is closed on failure."""
    stream = NestedStream(below)
    try:
        async with asyncio.timeout(deadline_s):
            await stream.handshake(context, server=True)
    except TimeoutError as exc:
        stream.abort()
        raise UnavailableError("the TLS handshake took too long") from exc
    except BaseException:
        with contextlib.suppress(OSError):
            stream.abort()
        raise
    return stream
