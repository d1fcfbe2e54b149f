"""Who holds the other end of a connection on this machine: a port on loopback is open to all its users."""

from __future__ import annotations

import ipaddress
import os
import socket
import struct
from pathlib import Path

_TABLES = ("/proc/net/tcp", "/proc/net/tcp6")
_NOBODYS = "0"


def is_own(sock: socket.socket) -> bool:
    """Whether this user, or root, holds the client's end of an accepted connection. Where the kernel has no
    such table (it is Linux's, proc_net_tcp(5)), everybody passes."""
    theirs, ours = _key(sock.getpeername()), _key(sock.getsockname())
    known = False
    for path in _TABLES:
        try:
            with Path(path).open(encoding="ascii") as table:
                known = True
                for line in table:
                    columns = line.split()
                    if len(columns) > 9 and _pair(columns) == (theirs, ours):
                        return _may(int(columns[7]), inode=columns[9])
        except FileNotFoundError:
            continue
    return not known


def _may(uid: int, inode: str) -> bool:
    # What its program has closed is nobody's, and shows root whoever it was.
    return inode != _NOBODYS and uid in (0, os.getuid())


def _pair(columns: list[str]) -> tuple[str, str]:
    return _plain(columns[1]), _plain(columns[2])


def _plain(shown: str) -> str:
    """An IPv4 address has two forms, the longer one where its program asked for IPv6."""
    address, _, port = shown.partition(":")
    return f"{address[24:] if address.startswith(_MAPPED) else address}:{port}"


def _key(address: tuple[str, int]) -> str:
    """As the table shows it: words of the host's byte order."""
    packed = ipaddress.ip_address(address[0].partition("%")[0]).packed
    words = struct.unpack(f"={len(packed) // 4}I", packed)
    return _plain("".join(f"{word:08X}" for word in words) + f":{address[1]:04X}")


_MAPPED = "".join(f"{word:08X}" for word in struct.unpack("=3I", bytes(10) + b"\xff\xff"))
