"""What a client asks of the whole connection, and the channels that this side opens. Sans-IO.

    open --(peer: confirmation)--> a Channel, given to whoever asked
         --(peer: failure)-------> nothing; whoever asked is told

Only a number that was asked for can be answered, and once: anything else ends the connection. Whose answer
has not come when the connection is over is told so, too.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass

from pkgs.common.ssh.limits import CHANNEL_PACKET, MAX_BIND_HOST, MAX_PENDING_OPENS, WINDOW
from pkgs.common.ssh.wire import Reader, WireError, string, uint32

_OPEN = b"\x5a"


@dataclass(frozen=True, slots=True)
class RemoteForward:
    """`tcpip-forward` and `cancel-tcpip-forward` (RFC 4254, 7.1): listen here, or stop it."""

    host: str
    """As the client wrote it: it knows its forwarding by this text."""
    port: int
    """0: any."""
    cancel: bool = False


def read_remote_forward(kind: str, reader: Reader) -> RemoteForward | None:
    """Parse the body of a global request; None for one that this side does not know. Raises WireError."""
    if kind not in ("tcpip-forward", "cancel-tcpip-forward"):
        return None
    host, port = reader.text(), reader.uint32()
    if port > 0xFFFF:
        raise WireError("port is out of range")
    if len(host) > MAX_BIND_HOST:
        raise WireError("address is too long")
    return RemoteForward(host, port, cancel=kind.startswith("cancel"))


@dataclass(frozen=True, slots=True)
class UnixForward:
    """`streamlocal-forward@openssh.com` and its `cancel-`: a socket (OpenSSH's PROTOCOL, 2.4)."""

    path: bytes
    """As the client wrote it."""
    cancel: bool = False


def read_unix_forward(kind: str, reader: Reader) -> UnixForward | None:
    """Parse the body of a global request; None for one of another kind. Raises WireError."""
    if kind not in ("streamlocal-forward@openssh.com", "cancel-streamlocal-forward@openssh.com"):
        return None
    return UnixForward(reader.string(), cancel=kind.startswith("cancel"))


def forwarded_unix(asked: UnixForward) -> bytes:
    """What an open of `forwarded-streamlocal@openssh.com` says beside the windows."""
    return string(asked.path) + string("")


def forwarded_tcp(asked: RemoteForward, port: int, origin: tuple[str, int]) -> bytes:
    """What an open of `forwarded-tcpip` says beside the windows (RFC 4254, 7.2)."""
    return string(asked.host) + uint32(port) + string(origin[0]) + uint32(origin[1])


@dataclass(frozen=True, slots=True)
class Waiting:
    """Who waits for the peer's answer. Called once, in the reading thread: one or the other."""

    confirmed: Callable[[int, int, int], None]
    """The peer's number, window and longest packet."""
    failed: Callable[[], None]


class Opening:
    """The channels that this side asked for and the peer has not answered. Any thread."""

    def __init__(self) -> None:
        self._waiting: dict[int, Waiting] = {}
        self._over = False
        self._lock = threading.Lock()

    def ask(self, kind: str, number: int, body: bytes, waiting: Waiting) -> bytes:
        """The message to send; empty when too many wait already, or nobody answers any more."""
        with self._lock:
            if self._over or len(self._waiting) >= MAX_PENDING_OPENS:
                return b""
            self._waiting[number] = waiting
        return _OPEN + string(kind) + uint32(number) + uint32(WINDOW) + uint32(CHANNEL_PACKET) + body

    def take(self, number: int) -> Waiting:
        """Raises WireError for a number that nobody waits for."""
        with self._lock:
            waiting = self._waiting.pop(number, None)
        if waiting is None:
            raise WireError("answer to a channel that was not asked for")
        return waiting

    def end(self) -> None:
        """The connection is over: no answer comes."""
        with self._lock:
            self._over = True
            waiting, self._waiting = self._waiting, {}
        for each in waiting.values():
            each.failed()
