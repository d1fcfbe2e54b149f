"""Reading and writing the bytes of PROXY protocol headers, version 1 and 2. Sans-IO, believes nothing."""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass

from pkgs.common.errors import ProtocolError
from pkgs.common.net import limits
from pkgs.common.net.sockets import plain_ip

V1_START = b"PROXY "
V2_START = b"\r\n\r\n\0\r\nQUIT\n"
_V1_MAX = 107
_V2_FIXED = 16
_VERSION_LOCAL = 0x20
_VERSION_PROXY = 0x21
_TCP4 = 0x11
_TCP6 = 0x21
_ADDRESS_LENGTH = {_TCP4: 12, _TCP6: 36}

Endpoint = tuple[str, int]
"""IP address and port."""


def header_length(start: bytes) -> int | None:
    """Length of the PROXY header that begins with these bytes; None when more are needed to tell."""
    if start.startswith(V2_START):
        if len(start) < _V2_FIXED:
            return None
        length = _V2_FIXED + int.from_bytes(start[14:16], "big")
        if length > limits.PROXY_HEADER_MAX:
            raise ProtocolError("the PROXY header is too long")
        return length
    end = start.find(b"\r\n", 0, _V1_MAX)
    if end < 0:
        if len(start) >= _V1_MAX:
            raise ProtocolError("the PROXY header is too long")
        return None
    return end + 2


@dataclass(frozen=True, slots=True)
class ParsedHeader:
    """A version 2 header taken apart."""

    source: Endpoint | None
    block: bytes
    """Family byte and address block, as signed."""
    tlvs: dict[int, bytes]


def packed(source: Endpoint, destination: Endpoint) -> bytes:
    """Family byte and address block for these two ends; a destination of the other family is left out."""
    from_ip, to_ip = (ipaddress.ip_address(plain_ip(one[0])) for one in (source, destination))
    family = _TCP4 if from_ip.version == 4 else _TCP6
    to_bytes = to_ip.packed if to_ip.version == from_ip.version else bytes(len(from_ip.packed))
    ports = source[1].to_bytes(2, "big") + destination[1].to_bytes(2, "big")
    return bytes([family]) + from_ip.packed + to_bytes + ports


def parse_v2(header: bytes) -> ParsedHeader:
    if len(header) < _V2_FIXED or not header.startswith(V2_START) or header_length(header) != len(header):
        raise ProtocolError("the PROXY header is malformed")
    command, family = header[12], header[13]
    if command == _VERSION_LOCAL:
        return ParsedHeader(None, b"", {})
    length = _ADDRESS_LENGTH.get(family)
    if command != _VERSION_PROXY or length is None or len(header) < _V2_FIXED + length:
        raise ProtocolError("the PROXY header is malformed")
    addresses = header[_V2_FIXED : _V2_FIXED + length]
    width = 4 if family == _TCP4 else 16
    ip = ipaddress.ip_address(addresses[:width])
    port = int.from_bytes(addresses[2 * width : 2 * width + 2], "big")
    return ParsedHeader(
        (plain_ip(str(ip)), port), bytes([family]) + addresses, _tlvs(header[_V2_FIXED + length :])
    )


def _tlvs(raw: bytes) -> dict[int, bytes]:
    found: dict[int, bytes] = {}
    at = 0
    while at < len(raw):
        if at + 3 > len(raw):
            raise ProtocolError("the PROXY header is malformed")
        kind, length = raw[at], int.from_bytes(raw[at + 1 : at + 3], "big")
        if at + 3 + length > len(raw) or kind in found:
            raise ProtocolError("the PROXY header is malformed")
        found[kind] = raw[at + 3 : at + 3 + length]
        at += 3 + length
    return found


def parse_v1(header: bytes) -> Endpoint | None:
    words = header.removesuffix(b"\r\n").decode("latin-1").split(" ")
    if words[1:2] == ["UNKNOWN"]:
        return None
    if len(words) != 6 or words[1] not in ("TCP4", "TCP6"):
        raise ProtocolError("the PROXY header is malformed")
    try:
        ip = ipaddress.ip_address(words[2])
    except ValueError as exc:
        raise ProtocolError("the PROXY header is malformed") from exc
    port = words[4]
    if not (port.isascii() and port.isdigit()) or int(port) > 65_535 or ip.version != int(words[1][3]):
        raise ProtocolError("the PROXY header is malformed")
    return plain_ip(str(ip)), int(port)


def build_v2(block: bytes, tlvs: dict[int, bytes]) -> bytes:
    """A version 2 header of a `packed` block and some TLVs."""
    body = block[1:] + b"".join(
        bytes([kind]) + len(value).to_bytes(2, "big") + value for kind, value in tlvs.items()
    )
    header = V2_START + bytes([_VERSION_PROXY, block[0]]) + len(body).to_bytes(2, "big") + body
    if len(header) > limits.PROXY_HEADER_MAX:
        raise ValueError("the parts do not fit into a PROXY header")
    return header


class PlainHeaderReader:
    """Reads the header of a load balancer in front of us (`proxy_protocol: on`): one is required."""

    required = True

    def verify(self, header: bytes) -> Endpoint | None:
        """The client's address, or None when the balancer speaks for itself (health checks)."""
        return parse_v2(header).source if header.startswith(V2_START) else parse_v1(header)
