"""Looking at the first bytes of a connection without taking them."""

from __future__ import annotations

import asyncio
import socket

from pkgs.common.net import limits


class PeerEnded(Exception):
    """The peer ended its side before it had said so much."""


async def peek(sock: socket.socket, needed: int, seen: bytes) -> bytes:
    """At least `needed` bytes from the socket, not consumed; `seen` is what an earlier call gave. The kernel
    wakes us only when they are all there (SO_RCVLOWAT), so that a hello sent byte by byte costs nothing."""
    try:
        return await _peek(sock, needed, seen)
    finally:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVLOWAT, 1)


async def _peek(sock: socket.socket, needed: int, seen: bytes) -> bytes:
    loop = asyncio.get_running_loop()
    first = True
    while True:
        try:
            raw = sock.recv(limits.HELLO_MAX, socket.MSG_PEEK)
        except (BlockingIOError, InterruptedError):
            raw = b"" if first else seen
            first = False
        else:
            if len(raw) >= needed:
                return raw
            if not raw or (not first and len(raw) == len(seen)):
                # Woken without the bytes: the peer has ended its side.
                raise PeerEnded
            first = False
        seen = raw
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVLOWAT, needed)
        ready: asyncio.Future[None] = loop.create_future()
        loop.add_reader(sock.fileno(), _wake, ready)
        try:
            await ready
        finally:
            loop.remove_reader(sock.fileno())


def _wake(ready: asyncio.Future[None]) -> None:
    if not ready.done():
        ready.set_result(None)
