"""Free loopback ports. A port is handed out once per process, so that two users never race for it."""

from __future__ import annotations

import os
import socket

_FIRST, _LAST = 10240, 32700
_given: set[int] = set()


def free_port() -> int:
    """A port on 127.0.0.1 that nobody listens on and that this process has not handed out before.

    Below the kernel's ephemeral range, so that no outgoing connection takes it in the meantime. Each
    process draws from a place of its own, so that two test runs at once seldom ask for the same one."""
    for step in range(_LAST - _FIRST):
        port = _FIRST + (os.getpid() * 37 + step) % (_LAST - _FIRST)
        if port in _given:
            continue
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
        _given.add(port)
        return port
    raise RuntimeError("no free port left")
