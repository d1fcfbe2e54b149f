"""Unix sockets: who is at the other end, and how to be the only one who listens."""

from __future__ import annotations

import asyncio
import os
import socket
import struct
from pathlib import Path
from typing import Any

from pkgs.common.errors import AccessError, InputError, LimitExceededError

MAX_SOCKET_PATH = 107
"""Bytes that the kernel has room for in a unix socket's address."""
BACKLOG = 1024
_PEER_CREDENTIALS = struct.Struct("3i")


def peer_uid(transport: asyncio.Transport) -> int:
    """User id of the process that connected, by the kernel's word."""
    sock: Any = transport.get_extra_info("socket")
    raw = sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _PEER_CREDENTIALS.size)
    return int(_PEER_CREDENTIALS.unpack(raw)[1])


def bind_unix(path: Path) -> socket.socket:
    """A socket at `path`, 0600 from its first moment; a dead one in the way is removed."""
    if len(os.fsencode(path)) > MAX_SOCKET_PATH:
        raise InputError(f"{path}: too long for a unix socket", hint="choose a shorter data directory")
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        if path.is_socket():
            with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
                try:
                    probe.connect(str(path))
                except OSError:
                    path.unlink(missing_ok=True)
                else:
                    raise LimitExceededError(f"another process listens on {path}")
        mask = os.umask(0o177)
        try:
            sock.bind(str(path))
        finally:
            os.umask(mask)
        sock.listen(BACKLOG)
        sock.setblocking(False)
    except (OSError, AccessError):
        sock.close()
        raise
    return sock
