"""Free loopback ports. A port is handed out once per process, so that two users never race for it."""

from __future__ import annotations

import os
import socket

_given: set[int] = set()


def free_port() -> int:
    """A port on 127.0.0.1 that nobody listens on and that this process has not handed out before.

    Below the kernel's ephemeral range, so that no outgoing connection takes it in the meantime; each
    test worker draws from a slice of its own."""
    worker = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw"))
    start = 20000 + worker * 1500
    for port in range(start, start + 1500):
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
    raise RuntimeError("no free port left in this worker's slice")
