"""What a host keeps to itself: addresses that no connection is forwarded to unless a role names them.

Loopback, link-local (the cloud's metadata address) and the host's own addresses: services there trust whoever
can reach them (attack A20).
"""

from __future__ import annotations

import ipaddress
from pathlib import Path

_METADATA = (ipaddress.ip_address("169.254.169.254"), ipaddress.ip_address("fd00:ec2::254"))


def refusal_of(address: str) -> str:
    """Why an IP address is no destination; empty when it may be one."""
    try:
        ip = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return "not an address"
    ip = getattr(ip, "ipv4_mapped", None) or getattr(ip, "sixtofour", None) or ip
    if ip in _METADATA or ip.is_link_local:
        return "link-local addresses are not forwarded to"
    if ip.is_loopback or ip.is_unspecified:
        return "this host's own loopback is not forwarded to"
    if ip.is_multicast or ip.is_reserved:
        return "that address is not one to connect to"
    if ip in own_addresses():
        return "this host's own addresses are not forwarded to"
    return ""


def refusal_of_socket(path: str, own_folder: str) -> str:
    """Why a unix socket is no destination; empty when it may be one. Whether the login's user may connect to
    it is the kernel's to say, but to root it says yes for the service's own."""
    if own_folder and path.startswith(own_folder.rstrip("/") + "/"):
        return "this host's own agent is not forwarded to"
    return ""


def own_addresses() -> frozenset[ipaddress.IPv4Address | ipaddress.IPv6Address]:
    """Addresses of this host's interfaces that the kernel would treat as itself."""
    found: set[ipaddress.IPv4Address | ipaddress.IPv6Address] = set()
    try:
        with Path("/proc/net/fib_trie").open() as table:
            previous = ""
            for line in table:
                words = line.split()
                if "/32 host LOCAL" in line and previous:
                    found.add(ipaddress.ip_address(previous))
                if len(words) == 2 and words[0] in ("|--", "+--"):
                    previous = words[1].partition("/")[0]
        with Path("/proc/net/if_inet6").open() as table:
            found.update(ipaddress.IPv6Address(bytes.fromhex(line.split()[0])) for line in table)
    except (OSError, ValueError, IndexError):
        return frozenset(found)
    return frozenset(found)
