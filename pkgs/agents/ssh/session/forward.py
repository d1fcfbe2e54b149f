"""Port forwarding on a node, as the login's user: looking a name up, and connecting to one of its addresses.

Where a connection may go is the service's to say, by the addresses that were found; one of these is the one
that is dialled, so a name that changes its mind gains nothing.
"""

from __future__ import annotations

import encodings.idna  # noqa: F401 - looking names up loads it, and the login's user may not be able to
import socket
from collections.abc import Sequence

from pkgs.agents.ssh.limits import FORWARD_DIAL_S, MAX_ADDRESSES


def resolve(host: str, port: int) -> list[str]:
    """The addresses of a name, best first; none when it has none. Blocking."""
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError):
        return []
    return list(dict.fromkeys(str(address[0]) for *_, address in found))[:MAX_ADDRESSES]


def dial(addresses: Sequence[str], port: int) -> socket.socket:
    """Connect to the first address that answers. Blocking; raises OSError with a text for the user."""
    problem = "no address"
    for address in addresses:
        sock = socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET, socket.SOCK_STREAM)
        try:
            sock.settimeout(FORWARD_DIAL_S)
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            sock.connect((address, port))
        except OSError as failed:
            sock.close()
            problem = failed.strerror or "no answer in time"
        else:
            return sock
    raise OSError(problem)
