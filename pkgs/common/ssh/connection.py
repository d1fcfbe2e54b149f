# mypy: disallow-subclassing-any=False
"""The server side of one SSH connection: the library does key exchange and packets, this does the rest.

Own code in place of the library's: authentication (certificates only, no side effect before a verified
signature), channels and requests (typed, with limits), order of messages before authentication (anything
out of place ends the connection), and sending during a key exchange (held back, never blocking).
"""

from __future__ import annotations

import contextlib
import logging
import socket
import threading
import time
from collections.abc import Callable
from typing import Any

from paramiko import transport
from paramiko.common import (
    HIGHEST_USERAUTH_MESSAGE_ID,
    MSG_CHANNEL_CLOSE,
    MSG_CHANNEL_DATA,
    MSG_CHANNEL_EOF,
    MSG_CHANNEL_EXTENDED_DATA,
    MSG_CHANNEL_FAILURE,
    MSG_CHANNEL_OPEN,
    MSG_CHANNEL_OPEN_FAILURE,
    MSG_CHANNEL_OPEN_SUCCESS,
    MSG_CHANNEL_REQUEST,
    MSG_CHANNEL_SUCCESS,
    MSG_CHANNEL_WINDOW_ADJUST,
    MSG_EXT_INFO,
    MSG_GLOBAL_REQUEST,
    MSG_REQUEST_FAILURE,
    MSG_REQUEST_SUCCESS,
)
from paramiko.kex_curve25519 import KexCurve25519
from paramiko.message import Message
from paramiko.ssh_exception import SSHException

from pkgs.common.ssh import algorithms, wire
from pkgs.common.ssh.auth import CertificateAuth
from pkgs.common.ssh.channel import Channel, Owner
from pkgs.common.ssh.forwarding import Opening, Waiting, read_remote_forward, read_unix_forward
from pkgs.common.ssh.limits import (
    BANNER_TIMEOUT_S,
    CHANNEL_PACKET,
    MAX_CHANNEL_OPENS,
    MAX_CHANNELS,
    MAX_DEFERRED,
    MAX_GLOBAL_REQUESTS,
    MAX_REQUEST,
    MAX_REQUESTS_PER_CHANNEL,
    MIN_REMOTE_PACKET,
    READ_TIMEOUT_S,
    WINDOW,
)
from pkgs.common.ssh.owner import (
    OPEN_PROHIBITED,
    OPEN_RESOURCE_SHORTAGE,
    OPEN_UNKNOWN_TYPE,
    ConnectionOwner,
    HostKey,
    OpenRefused,
    UnixForwarder,
)
from pkgs.common.ssh.packets import BoundedPacketizer, RawMessage
from pkgs.common.ssh.requests import read_direct_tcp, read_direct_unix, read_request
from pkgs.common.ssh.signature import PLAIN_ALGORITHMS

_OPEN_CONFIRMATION = b"\x5b"
_OPEN_FAILURE = b"\x5c"
_GLOBAL_REQUEST = b"\x50"
_REQUEST_SUCCESS = b"\x51"
_REQUEST_FAILURE = b"\x52"
_DISCONNECT = b"\x01"
_BY_APPLICATION = 11
_KEEP_ALIVE = b"keepalive@openssh.com"
_DIRECT_UNIX = "direct-streamlocal@openssh.com"

# The library's type stubs leave out what this room builds on.
_Base: Any = transport.Transport

logging.getLogger("paramiko").setLevel(logging.CRITICAL + 1)


class _HostKey:
    """A host key whose private half is elsewhere: the three methods the key exchange calls."""

    def __init__(self, key: HostKey, owner: ConnectionOwner) -> None:
        self._key = key
        self._owner = owner

    def get_name(self) -> str:
        return self._key.algorithm

    def asbytes(self) -> bytes:
        return self._key.blob

    def sign_ssh_data(self, data: bytes, algorithm: str | None = None) -> bytes:
        return self._owner.sign(algorithm or self._key.algorithm, bytes(data))


class _Channels:
    """The connection's open channels. (The library's own map forgets them: it holds weak references.)"""

    def __init__(self) -> None:
        self._by_number: dict[int, Channel] = {}

    def put(self, number: int, channel: Channel) -> None:
        self._by_number[number] = channel

    def get(self, number: int) -> Channel | None:
        return self._by_number.get(number)

    def delete(self, number: int) -> None:
        self._by_number.pop(number, None)

    def values(self) -> list[Channel]:
        return list(self._by_number.values())

    def __len__(self) -> int:
        return len(self._by_number)


class _Transport(_Base):
    """The library's transport with our lists, limits and order."""

    _CLIENT_ID = algorithms.VERSION
    _active_check_timeout = READ_TIMEOUT_S
    _preferred_kex = algorithms.KEX
    _preferred_pubkeys = PLAIN_ALGORITHMS
    # The same key agreement under its standard name, which the library lacks.
    _kex_info = {**_Base._kex_info, "curve25519-sha256": KexCurve25519}

    active: bool
    auth_handler: Any

    def __init__(
        self, sock: socket.socket, owner: ConnectionOwner, keys: list[HostKey], offered: algorithms.Algorithms
    ) -> None:
        super().__init__(
            sock,
            default_window_size=WINDOW,
            default_max_packet_size=CHANNEL_PACKET,
            packetizer_class=BoundedPacketizer,
        )
        self.owner = owner
        self.banner_timeout = BANNER_TIMEOUT_S
        self._preferred_ciphers = offered.ciphers
        self._preferred_macs = offered.macs
        self._channels = _Channels()
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
        self.unanswered = 0
        self.heard_at = time.monotonic()
        self._deferred: list[RawMessage] = []
        self._deferred_bytes = 0
        self._opens = 0
        self._opening = Opening()
        self._numbering = threading.Lock()
        self._global_requests = 0
        for key in keys:
            self.server_key_dict[key.algorithm] = _HostKey(key, owner)

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

    def disconnect(self, code: int, text: str) -> None:
        body = _DISCONNECT + wire.uint32(code) + wire.string(text) + wire.string("en")
        self._send_message(RawMessage(body))

    def _parse_newkeys(self, m: Message) -> None:
        if self.kex_engine is None:
            raise SSHException("NEWKEYS outside a key exchange")
        if self.auth_handler is None:
            self.auth_handler = CertificateAuth(self)
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
        """Nothing a client may announce here changes anything."""

    def _parse_alive(self, _: Message) -> None:
        self.unanswered = 0

    def _parse_global_request(self, m: Message) -> None:
        reader = _reader(m)
        kind = reader.string()
        if kind != _KEEP_ALIVE:  # these come for as long as a connection stands, weeks even
            self._global_requests += 1
        if self._global_requests > MAX_GLOBAL_REQUESTS:
            raise SSHException("too many global requests")
        want_reply = reader.boolean()
        told = self._listen(kind.decode(errors="replace"), reader)
        if want_reply:
            self.post(_REQUEST_FAILURE if told is None else _REQUEST_SUCCESS + told)

    def _listen(self, kind: str, reader: wire.Reader) -> bytes | None:
        """Begin or stop listening for the peer, if that is what it asks; what it is told, or None: no."""
        if (unix := read_unix_forward(kind, reader)) is not None:
            return b"" if isinstance(self.owner, UnixForwarder) and self.owner.unix_forward(unix) else None
        forward = read_remote_forward(kind, reader)
        port = self.owner.remote_forward(forward) if forward is not None else None
        if forward is None or port is None:
            return None
        # The port is told to a client that left it open (RFC 4254, 7.1).
        return wire.uint32(port) if forward.port == 0 and not forward.cancel else b""

    def open_channel_for(
        self, kind: str, body: bytes, opened: Callable[[Channel], Owner], failed: Callable[[], None]
    ) -> bool:
        """Ask the peer for a channel; False when too many are open or asked for."""
        with self._numbering:
            self._opens += 1
            if self._opens > MAX_CHANNEL_OPENS or len(self._channels) >= MAX_CHANNELS:
                return False
            number = self._next_channel()

        def confirmed(remote: int, window: int, packet: int) -> None:
            if packet < MIN_REMOTE_PACKET:  # attack A66
                raise SSHException("maximum packet size is too small")
            channel = Channel(self.post, number, remote, window, min(packet, CHANNEL_PACKET))
            channel.forget, channel.touched = self._channels.delete, self._touched
            channel.owner = opened(channel)
            self._channels.put(number, channel)
            self.channels_seen[number] = True

        message = self._opening.ask(kind, number, body, Waiting(confirmed, failed))
        if message:
            self.post(message)
        return bool(message)

    def _touched(self) -> None:
        self.heard_at = time.monotonic()

    def _parse_opened(self, m: Message) -> None:
        reader = _reader(m)
        waiting = self._opening.take(reader.uint32())
        waiting.confirmed(reader.uint32(), reader.uint32(), reader.uint32())

    def _parse_not_opened(self, m: Message) -> None:
        self._opening.take(_reader(m).uint32()).failed()

    def _parse_channel_open(self, m: Message) -> None:
        reader = wire.Reader(m.get_remainder())
        kind, remote = reader.text(), reader.uint32()
        window, packet = reader.uint32(), reader.uint32()
        self._opens += 1
        try:
            if self._opens > MAX_CHANNEL_OPENS or len(self._channels) >= MAX_CHANNELS:
                raise OpenRefused(OPEN_RESOURCE_SHORTAGE, "too many channels")
            if packet < MIN_REMOTE_PACKET:
                raise OpenRefused(OPEN_PROHIBITED, "maximum packet size is too small")
            channel = self._new_channel(remote, window, min(packet, CHANNEL_PACKET))
            if kind == "session":
                channel.owner = self.owner.open_session(channel)
            elif kind == "direct-tcpip":
                channel.owner = self.owner.open_direct_tcp(channel, read_direct_tcp(reader))
            elif kind == _DIRECT_UNIX and isinstance(self.owner, UnixForwarder):
                channel.owner = self.owner.open_direct_unix(channel, read_direct_unix(reader))
            else:
                raise OpenRefused(OPEN_UNKNOWN_TYPE, "unknown channel type")
        except OpenRefused as refusal:
            self._refuse_open(remote, refusal.code, refusal.text)
            return
        self._channels.put(channel.number, channel)
        self.channels_seen[channel.number] = True
        if kind == "session":
            channel.confirm()

    def _new_channel(self, remote: int, window: int, packet: int) -> Channel:
        with self._numbering:
            number = self._next_channel()
        channel = Channel(self.post, number, remote, window, packet)

        def confirm() -> None:
            head = _OPEN_CONFIRMATION + wire.uint32(remote) + wire.uint32(channel.number)
            self.post(head + wire.uint32(WINDOW) + wire.uint32(CHANNEL_PACKET))
            if channel.owner is not None:
                channel.owner.opened()

        def refuse(code: int, text: str) -> None:
            self._refuse_open(remote, code, text)
            channel.discard()
            self._channels.delete(channel.number)

        channel.forget, channel.confirm, channel.refuse = self._channels.delete, confirm, refuse
        channel.touched = self._touched
        return channel

    def _refuse_open(self, remote: int, code: int, text: str) -> None:
        head = _OPEN_FAILURE + wire.uint32(remote) + wire.uint32(code)
        self.post(head + wire.string(text) + wire.string("en"))


def _reader(m: Message) -> wire.Reader:
    body = m.get_remainder()
    if len(body) > MAX_REQUEST:
        raise SSHException("request is too long")
    return wire.Reader(body)


def _on_data(channel: Channel, m: Message) -> None:
    channel.touched()
    channel.take_data(m.get_binary())


def _on_extended(channel: Channel, m: Message) -> None:
    # No client has a use for sending on the error stream; counted against the window, then dropped.
    size = len(m.get_remainder()) - 8
    channel.consumed(max(size, 0))


def _on_adjust(channel: Channel, m: Message) -> None:
    channel.take_adjust(m.get_int())


def _on_eof(channel: Channel, _: Message) -> None:
    channel.take_eof()


def _on_request(channel: Channel, m: Message) -> None:
    channel.touched()
    channel.requests += 1
    if channel.requests > MAX_REQUESTS_PER_CHANNEL:
        raise SSHException("too many requests on a channel")
    reader = _reader(m)
    kind, want_reply = reader.text(), reader.boolean()
    channel.take_request(read_request(kind, reader), want_reply)


def _ignore(channel: Channel, _: Message) -> None:
    """Answers to requests of ours that ask for none."""


def _on_close(channel: Channel, _: Message) -> None:
    channel.forget(channel.number)
    channel.vanish()


_Transport._channel_handler_table = {
    MSG_CHANNEL_DATA: _on_data,
    MSG_CHANNEL_EXTENDED_DATA: _on_extended,
    MSG_CHANNEL_WINDOW_ADJUST: _on_adjust,
    MSG_CHANNEL_EOF: _on_eof,
    MSG_CHANNEL_REQUEST: _on_request,
    MSG_CHANNEL_CLOSE: _on_close,
    MSG_CHANNEL_SUCCESS: _ignore,
    MSG_CHANNEL_FAILURE: _ignore,
}


class Connection:
    """Serves one accepted socket. `start` returns at once; the service's callbacks say the rest."""

    def __init__(
        self,
        sock: socket.socket,
        owner: ConnectionOwner,
        host_keys: list[HostKey],
        *,
        allow_ctr: bool = False,
    ) -> None:
        self._owner = owner
        self._transport = _Transport(sock, owner, host_keys, algorithms.offered(allow_ctr))
        self._thread = threading.Thread(target=self._run, name="ssh", daemon=True)

    def start(self) -> None:
        self._transport.server_mode = True
        self._transport.active = True
        self._thread.start()

    def keep_alive(self) -> int:
        """Ask the peer for a sign of life; the number of such questions it has not answered yet."""
        self._transport.unanswered += 1
        self._transport.post(_GLOBAL_REQUEST + wire.string(_KEEP_ALIVE) + wire.boolean(True))
        return self._transport.unanswered

    def open_channel(
        self, kind: str, body: bytes, opened: Callable[[Channel], Owner], failed: Callable[[], None]
    ) -> bool:
        """Ask the peer for a channel. Any thread; `opened` and `failed` come in the reading thread, one of
        them, once. False: too many channels, and neither is called."""
        return self._transport.open_channel_for(kind, body, opened, failed)

    def end(self, text: str) -> None:
        """Tell the peer why, and hang up."""
        if self._transport.active:
            body = _DISCONNECT + wire.uint32(_BY_APPLICATION) + wire.string(text) + wire.string("en")
            with contextlib.suppress(OSError, EOFError, SSHException):  # the peer may be gone already
                self._transport.post(body)
        self.abort()

    def abort(self) -> None:
        """Hang up at once; `ended` follows."""
        self._transport.active = False
        with contextlib.suppress(OSError):  # already closed
            self._transport.sock.shutdown(socket.SHUT_RDWR)

    def join(self, timeout_s: float) -> None:
        self._thread.join(timeout_s)

    @property
    def heard_at(self) -> float:
        """When the peer last sent data or a request on a channel (`time.monotonic`); keep-alives are none."""
        return float(self._transport.heard_at)

    @property
    def strict_kex(self) -> bool:
        return bool(self._transport.agreed_on_strict_kex)

    def _run(self) -> None:
        self._transport.run()
        problem = self._transport.saved_exception
        self._owner.ended("" if problem is None or isinstance(problem, EOFError) else str(problem))
