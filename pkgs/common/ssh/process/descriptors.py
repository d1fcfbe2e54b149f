"""Receiving descriptors over a unix socket, closed on exec from the first moment.

The standard library's `recv_fds` ignores its flags (CPython 3.11), so that what it receives would be
inherited by every command a user runs.
"""

from __future__ import annotations

import array
import socket


def receive(sock: socket.socket, size: int, most: int, flags: int = 0) -> tuple[bytes, list[int], bool]:
    """One message, its descriptors, and whether it was cut. Raises OSError like `recvmsg`."""
    item = array.array("i").itemsize
    data, ancillary, found, _ = sock.recvmsg(
        size, socket.CMSG_SPACE(most * item), flags | socket.MSG_CMSG_CLOEXEC
    )
    fds: list[int] = []
    for level, kind, payload in ancillary:
        if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
            numbers = array.array("i")
            numbers.frombytes(payload[: len(payload) - len(payload) % item])
            fds += numbers
    return data, fds, bool(found & (socket.MSG_TRUNC | socket.MSG_CTRUNC))


def close_all(fds: list[int]) -> None:
    for fd in fds:
        socket.close(fd)
