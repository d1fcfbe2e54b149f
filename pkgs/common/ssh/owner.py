"""What a connection asks of the program behind it; the border of this room on the process's side."""

from __future__ import annotations

from typing import Protocol, runtime_checkable

import msgspec

from pkgs.common.ssh.channel import Channel, Owner
from pkgs.common.ssh.forwarding import RemoteForward, UnixForward
from pkgs.common.ssh.requests import DirectTcp

OPEN_PROHIBITED = 1
OPEN_CONNECT_FAILED = 2
OPEN_UNKNOWN_TYPE = 3
OPEN_RESOURCE_SHORTAGE = 4


class HostKey(msgspec.Struct, frozen=True, kw_only=True):
    """Public half of a host key under one algorithm name; the private half stays with the service."""

    algorithm: str
    blob: bytes


class OpenRefused(Exception):
    """A channel is not to be opened: reason code and text for the peer."""

    def __init__(self, code: int, text: str) -> None:
        super().__init__(text)
        self.code = code
        self.text = text


class LoginRefused(Exception):
    """No login. The text is shown to the peer; `final` ends the connection."""

    def __init__(self, text: str, *, final: bool = False) -> None:
        super().__init__(text)
        self.text = text
        self.final = final


class LoginOwner(Protocol):
    """What a connection asks before it is anybody's. All calls come from its reading thread."""

    def sign(self, algorithm: str, exchange_hash: bytes) -> bytes:
        """The host signature in wire form."""

    def acceptable(self, user: str, blob: bytes) -> bool:
        """Would the certificate do? Must change nothing: nothing is proven yet."""

    def prove(self, user: str, algorithm: str, blob: bytes, signature: bytes) -> None:
        """Log in with a signed request; returning is a yes, for good. Raises LoginRefused."""


class ConnectionOwner(Protocol):
    """What a connection asks when somebody has logged in. All calls come from its reading thread."""

    def open_session(self, channel: Channel) -> Owner:
        """Confirmed as soon as it returns. Raises OpenRefused."""

    def open_direct_tcp(self, channel: Channel, target: DirectTcp) -> Owner:
        """Whoever it returns calls the channel's `confirm` or `refuse` when it knows. Raises OpenRefused."""

    def remote_forward(self, asked: RemoteForward) -> int | None:
        """Begin or stop listening for the client; the port, or None to refuse."""

    def ended(self, reason: str) -> None:
        """The connection is gone."""


@runtime_checkable
class UnixForwarder(Protocol):
    """An owner that forwards unix sockets too; for any other they are refused."""

    def open_direct_unix(self, channel: Channel, path: bytes) -> Owner:
        """As `open_direct_tcp`."""

    def unix_forward(self, asked: UnixForward) -> bool:
        """Begin or stop listening for the client; False to refuse."""
