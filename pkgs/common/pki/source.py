"""The source-address restriction: one comparison for every path (attack A12)."""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence

from pkgs.common.errors import DeniedError
from pkgs.common.pki.identity import Identity

IpNetwork = ipaddress.IPv4Network | ipaddress.IPv6Network
IpAddress = ipaddress.IPv4Address | ipaddress.IPv6Address


def parse_address(text: str) -> IpAddress | None:
    """An address, IPv4 written inside IPv6 unwrapped; None for anything else."""
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        return None
    if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped is not None:
        return address.ipv4_mapped
    return address


def source_of(address: str) -> str:
    """What an address is counted under: itself, or its /64, since whoever has one address of a /64 has them
    all. Anything that is no IP address is its own source."""
    ip = parse_address(address.partition("%")[0])
    if ip is None:
        return address
    return str(ip) if ip.version == 4 else str(ipaddress.ip_network((ip, 64), strict=False))


def same_address(pinned: str, actual: str) -> bool:
    """Whether both are addresses and the same one; an unknown address is never the same."""
    wanted, found = parse_address(pinned), parse_address(actual)
    return wanted is not None and wanted == found


def address_in(actual: str, networks: Sequence[IpNetwork]) -> bool:
    """Whether the address lies in one of the networks."""
    address = parse_address(actual)
    return address is not None and any(
        address.version == network.version and address in network for network in networks
    )


def check_source(identity: Identity, source_addr: str) -> None:
    """Refuses an identity pinned to another address than `source_addr`; an unpinned one passes."""
    if identity.source_addr and not same_address(identity.source_addr, source_addr):
        raise DeniedError(
            "this certificate may not be used from this address",
            hint="log in again from here",
            detail=f"pinned to {identity.source_addr}, used from {source_addr or 'an unknown address'}",
        )
