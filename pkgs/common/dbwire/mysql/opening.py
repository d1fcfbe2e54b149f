"""How a login begins where no server has spoken yet: a greeting of our own, and the client's first packet.

Who greets need not be who goes on: a proxy greets, takes the request for TLS, and passes on what follows.
"""

from __future__ import annotations

from typing import Final

from pkgs.common.dbwire.mysql.flags import OFFERED, Capability
from pkgs.common.dbwire.mysql.handshake import SCRAMBLE_SIZE, Greeting, is_ssl_request
from pkgs.common.dbwire.mysql.limits import LOGIN_PACKET_MAX
from pkgs.common.dbwire.mysql.packets import HEADER
from pkgs.common.errors import ProtocolError

DEFAULT_VERSION: Final = "5.7.0-open-access"
"""Shown where the server's own is not known: what clients do for it works with MySQL 8 and MariaDB too."""
NUMBERS: Final = range(1 << 31, 1 << 32)
"""Of connections, in our greetings: where no server counts its threads, so that an order to kill one hits
none when it goes astray."""
RANDOM_SIZE: Final = 4 + SCRAMBLE_SIZE


def own_greeting(random: bytes, version: str = DEFAULT_VERSION, offered: Capability = OFFERED) -> Greeting:
    """A greeting that no server has said, from `RANDOM_SIZE` random bytes."""
    number = NUMBERS[int.from_bytes(random[:4], "little") % len(NUMBERS)]
    # Nobody checks what a password does with it, but clients expect 20 bytes without a zero.
    scramble = bytes(byte % 255 + 1 for byte in random[4:RANDOM_SIZE])
    return Greeting(version, number, scramble, offered)


def packet_size(header: bytes, sequence: int) -> int:
    """How many bytes the client's packet of this number has with its header. Raises ProtocolError when it can
    be none of a login."""
    length = int.from_bytes(header[:3], "little")
    if not 0 < length <= LOGIN_PACKET_MAX or header[3] != sequence:
        raise ProtocolError("this port speaks MySQL's protocol")
    return HEADER + length


def asks_for_tls(packet: bytes) -> bool:
    """Whether a client's first packet, all of it, asks for TLS; else it is a login without."""
    return is_ssl_request(packet[HEADER:])
