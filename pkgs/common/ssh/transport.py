# mypy: disallow-subclassing-any=False
"""The library's transport with our lists, limits and order, the same on both sides of a connection.

The library does key exchange and packets. What is out of order ends the connection; sending during a key
exchange is held back, and never blocks.
"""

from __future__ import annotations

import contextlib
import socket
from typing import Any, Generic, TypeVar

from paramiko import transport
from paramiko.common import (
    HIGHEST_USERAUTH_MESSAGE_ID,
    MSG_CHANNEL_OPEN,
    MSG_CHANNEL_OPEN_FAILURE,
    MSG_CHANNEL_OPEN_SUCCESS,
    MSG_EXT_INFO,
    MSG_GLOBAL_REQUEST,
    MSG_REQUEST_FAILURE,
    MSG_REQUEST_SUCCESS,
)
from paramiko.kex_curve25519 import KexCurve25519
from paramiko.message import Message
from paramiko.ssh_exception import SSHException

from pkgs.common.ssh import algorithms, wire
from pkgs.common.ssh.limits import (
    BANNER_TIMEOUT_S,
    CHANNEL_PACKET,
    MAX_DEFERRED,
    MAX_REQUEST,
    WINDOW,
)
from pkgs.common.ssh.packets import BoundedPacketizer, RawMessage

KEEP_ALIVE = b"keepalive@openssh.com"
DISCONNECT = b"\x01"
_BY_APPLICATION = 11
_GLOBAL_REQUEST = b"\x50"

# The library's type stubs leave out what this room builds on.
_Base: Any = transport.Transport

C = TypeVar("C")


class Channels(Generic[C]):
    """The connection's channels. (The library's own map forgets them: it holds weak references.)"""

    def __init__(self) -> None:
        self._by_number: dict[int, C] = {}

    def put(self, number: int, channel: C) -> None:
        self._by_number[number] = channel

    def get(self, number: int) -> C | None:
        return self._by_number.get(number)

    def delete(self, number: int) -> None:
        self._by_number.pop(number, None)

    def values(self) -> list[C]:
        return list(self._by_number.values())

    def __len__(self) -> int:
        return len(self._by_number)


class OrderedTransport(_Base):
    """What each side adds: who is let in, and what the messages about channels mean."""

    _CLIENT_ID = algorithms.VERSION
    _active_check_timeout = BANNER_TIMEOUT_S
    _preferred_kex = algorithms.KEX
    # The same key agreement under its standard name, which the library lacks.
    _kex_info = {**_Base._kex_info, "curve25519-sha256": KexCurve25519}

    active: bool

    def __init__(self, sock: socket.socket, offered: algorithms.Algorithms) -> None:
        super().__init__(
            sock,
            default_window_size=WINDOW,
            default_max_packet_size=CHANNEL_PACKET,
            packetizer_class=BoundedPacketizer,
        )
        self.banner_timeout = BANNER_TIMEOUT_S
        self._preferred_ciphers = offered.ciphers
        self._preferred_macs = offered.macs
        self._handler_table.update(
            {
                MSG_EXT_INFO: self._parse_ignored,
                MSG_CHANNEL_OPEN: self._parse_channel_open,
                MSG_CHANNEL_OPEN_SUCCESS: self._parse_opened,
                MSG_CHANNEL_OPEN_FAILURE: self._parse_not_opened,
                MSG_GLOBAL_REQUEST: self._parse_global_request,
                MSG_REQUEST_SUCCESS: self._parse_alive,
                MSG_REQUEST_FAILURE: self._parse_alive,
            }
        )
        self._unanswered = 0
        self._deferred: list[RawMessage] = []
        self._deferred_bytes = 0
        self._opens = 0
        self._global_requests = 0

    def post(self, head: bytes, data: bytes = b"") -> None:
        """Send now, or after the key exchange that is going on. Never waits for one, in any thread."""
        with self.clear_to_send_lock:
            if self.clear_to_send.is_set() and not self._deferred:
                if self.active:
                    try:
                        self.packetizer.send_data(head, data)
                    except EOFError:
                        self.active = False
                return
            self._deferred.append(RawMessage(head + data))
            self._deferred_bytes += len(head) + len(data)
            if self._deferred_bytes > MAX_DEFERRED:
                self.active = False
                raise SSHException("key exchange takes too long")

    def ask_alive(self) -> int:
        """Ask the peer for a sign of life; the number of such questions it has not answered yet."""
        self._unanswered += 1
        self.post(_GLOBAL_REQUEST + wire.string(KEEP_ALIVE) + wire.boolean(True))
        return int(self._unanswered)

    def hang_up(self, text: str) -> None:
        """Tell the peer why, and close."""
        if self.active:
            body = DISCONNECT + wire.uint32(_BY_APPLICATION) + wire.string(text) + wire.string("en")
            with contextlib.suppress(OSError, EOFError, SSHException):  # the peer may be gone already
                self.post(body)
        self.abort()

    def abort(self) -> None:
        """Close at once."""
        self.active = False
        with contextlib.suppress(OSError):  # already closed
            self.sock.shutdown(socket.SHUT_RDWR)

    def _parse_newkeys(self, m: Message) -> None:
        if self.kex_engine is None:
            raise SSHException("NEWKEYS outside a key exchange")
        super()._parse_newkeys(m)
        with self.clear_to_send_lock:
            for message in self._deferred:
                self._send_message(message)
            self._deferred.clear()
            self._deferred_bytes = 0

    def _ensure_authed(self, ptype: int, message: Message) -> None:
        # attack A10: not answered but ended; no callback is reached
        if ptype > HIGHEST_USERAUTH_MESSAGE_ID and not self.is_authenticated():
            raise SSHException("message before authentication")

    def _parse_ignored(self, _: Message) -> None:
        """Nothing a peer may announce here changes anything."""

    def _parse_alive(self, _: Message) -> None:
        self._unanswered = 0


def reader_of(m: Message) -> wire.Reader:
    """What is left of a message. Raises SSHException when it is too long."""
    body = m.get_remainder()
    if len(body) > MAX_REQUEST:
        raise SSHException("message is too long")
    return wire.Reader(body)
