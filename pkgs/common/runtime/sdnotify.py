"""Telling systemd how we are (`Type=notify`), without a library: one datagram to `$NOTIFY_SOCKET`."""

from __future__ import annotations

import os
import socket


def notify(*assignments: str) -> bool:
    """Sends e.g. `READY=1`. False when nobody asked for it or nobody hears it; never raises."""
    address = os.environ.get("NOTIFY_SOCKET", "")
    if not address.startswith(("/", "@")):
        return False
    if address.startswith("@"):
        address = "\0" + address[1:]
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sock:
            # Not waiting: a listener that does not read must not stop the service.
            sock.sendto("\n".join(assignments).encode(), socket.MSG_DONTWAIT, address)
    except OSError:
        return False
    return True


def watchdog_interval_s() -> float | None:
    """How often systemd wants `WATCHDOG=1`: half of its limit. None: not at all."""
    raw, owner = os.environ.get("WATCHDOG_USEC", ""), os.environ.get("WATCHDOG_PID", "")
    if not raw.isdigit() or int(raw) == 0 or (owner and owner != str(os.getpid())):
        return None
    return int(raw) / 2_000_000
