"""Small facts about sockets that every other file of this room needs."""

from __future__ import annotations

import contextlib
import socket

from pkgs.common.errors import InputError
from pkgs.common.net import limits


def split_host_port(addr: str, default_port: int = 0) -> tuple[str, int]:
    """`host:port`, `[v6]:port`, `host`, `:port` or `tcp://host:port` taken apart; port 0 if none is named
    and no default given. Raises InputError."""
    text = addr.removeprefix("tcp://")
    if text.startswith("["):
        host, bracket, rest = text[1:].partition("]")
        if not bracket or (rest and not rest.startswith(":")):
            raise InputError(f"{addr!r} is not an address", hint="write [address]:port for IPv6")
        port = rest[1:]
    elif text.count(":") > 1:
        host, port = text, ""
    else:
        host, _, port = text.partition(":")
    if not port:
        return host, default_port
    if not (port.isascii() and port.isdigit()) or int(port) > 65_535:
        raise InputError(f"{addr!r} has no valid port", hint="write host:port with a port of 0 to 65535")
    return host, int(port)


def join_host_port(host: str, port: int) -> str:
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def plain_ip(host: str) -> str:
    """An IP as people write it: IPv4 also when it came in by an IPv6 socket, and without a zone."""
    return (
        host.removeprefix("::ffff:") if host.startswith("::ffff:") and "." in host else host.partition("%")[0]
    )


def tune(sock: socket.socket) -> None:
    """Non-blocking, no Nagle delay, and a dead peer is noticed. Unix sockets get a larger buffer."""
    sock.setblocking(False)
    if sock.family == socket.AF_UNIX:
        with contextlib.suppress(OSError):
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, limits.READ_CHUNK)
        return
    with contextlib.suppress(OSError):
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, limits.KEEPALIVE_IDLE_S)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, limits.KEEPALIVE_INTERVAL_S)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPCNT, limits.KEEPALIVE_COUNT)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, limits.UNACKNOWLEDGED_MS)


def peer_of(sock: socket.socket) -> tuple[str, int]:
    """IP and port at the other end; empty for unix sockets and for a peer that is gone already."""
    try:
        name = sock.getpeername()
    except OSError:
        return "", 0
    return (plain_ip(name[0]), name[1]) if isinstance(name, tuple) else ("", 0)
