"""Ports that a client wants to reach, as the login's user: looking a name up, and connecting to one of its
addresses.

Where a connection may go is the service's to say, by the addresses that were found; one of these is the one
that is dialled, so a name that changes its mind gains nothing.
"""

from __future__ import annotations

import encodings.idna  # noqa: F401 - looking names up loads it, and the login's user may not be able to
import socket
from collections.abc import Sequence
from typing import Literal

from pkgs.agents.ssh.limits import FORWARD_DIAL_S, MAX_ADDRESSES
from pkgs.agents.ssh.messages import ForwardAnswer, ForwardEnded, OpenForward
from pkgs.common.ssh.owner import OPEN_CONNECT_FAILED, OPEN_PROHIBITED, OpenRefused
from pkgs.common.ssh.process.link import Link
from pkgs.common.ssh.requests import DirectTcp


class WayToPort:
    """A `Way` of one channel."""

    def __init__(self, link: Link, channel: int, target: DirectTcp) -> None:
        self._link = link
        self._channel = channel
        self._target = target

    def reach(self) -> socket.socket:
        host, port = self._target.host, self._target.port
        asked = OpenForward(channel=self._channel, host=host, port=port, addresses=resolve(host, port))
        answer = self._link.call(asked, ForwardAnswer)
        if answer.refusal:
            code = OPEN_CONNECT_FAILED if answer.unreachable else OPEN_PROHIBITED
            raise OpenRefused(code, answer.refusal)
        try:
            return dial(answer.addresses, port)
        except OSError as problem:
            self.tell("failed", str(problem))
            raise OpenRefused(OPEN_CONNECT_FAILED, str(problem)) from None

    def tell(self, what: Literal["started", "stopped", "failed"], error: str = "") -> None:
        self._link.tell(ForwardEnded(channel=self._channel, what=what, error=error))


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
