# mypy: disallow-subclassing-any=False
"""The server side of one SSH connection: the library does key exchange and packets, this does the rest.

Own code in place of the library's: authentication (certificates only, no side effect before a verified
signature), channels and requests (typed, with limits).
"""

from __future__ import annotations

import logging
import socket
import threading
import time
from collections.abc import Callable
from typing import Any

from paramiko.common import (
    MSG_CHANNEL_CLOSE,
    MSG_CHANNEL_DATA,
    MSG_CHANNEL_EOF,
    MSG_CHANNEL_EXTENDED_DATA,
    MSG_CHANNEL_FAILURE,
    MSG_CHANNEL_REQUEST,
    MSG_CHANNEL_SUCCESS,
    MSG_CHANNEL_WINDOW_ADJUST,
)
from paramiko.message import Message
from paramiko.ssh_exception import SSHException

from pkgs.common.ssh import algorithms, wire
from pkgs.common.ssh.auth import CertificateAuth
from pkgs.common.ssh.channel import Channel, Owner
from pkgs.common.ssh.forwarding import Opening, Waiting, read_remote_forward, read_unix_forward
from pkgs.common.ssh.limits import (
    CHANNEL_PACKET,
    MAX_CHANNEL_OPENS,
    MAX_CHANNELS,
    MAX_GLOBAL_REQUESTS,
    MAX_REQUESTS_PER_CHANNEL,
    MIN_REMOTE_PACKET,
    WINDOW,
)
from pkgs.common.ssh.owner import (
    OPEN_PROHIBITED,
    OPEN_RESOURCE_SHORTAGE,
    OPEN_UNKNOWN_TYPE,
    ConnectionOwner,
    HostKey,
    LoginOwner,
    OpenRefused,
    UnixForwarder,
)
from pkgs.common.ssh.packets import RawMessage
from pkgs.common.ssh.requests import read_direct_tcp, read_direct_unix, read_request
from pkgs.common.ssh.signature import PLAIN_ALGORITHMS
from pkgs.common.ssh.transport import DISCONNECT, KEEP_ALIVE, Channels, OrderedTransport, reader_of

_OPEN_CONFIRMATION = b"\x5b"
_OPEN_FAILURE = b"\x5c"
_REQUEST_SUCCESS = b"\x51"
_REQUEST_FAILURE = b"\x52"
_DIRECT_UNIX = "direct-streamlocal@openssh.com"

logging.getLogger("paramiko").setLevel(logging.CRITICAL + 1)


class _HostKey:
    """A host key whose private half is elsewhere: the three methods the key exchange calls."""

    def __init__(self, key: HostKey, login: LoginOwner) -> None:
        self._key = key
        self._login = login

    def get_name(self) -> str:
        return self._key.algorithm

    def asbytes(self) -> bytes:
        return self._key.blob

    def sign_ssh_data(self, data: bytes, algorithm: str | None = None) -> bytes:
        return self._login.sign(algorithm or self._key.algorithm, bytes(data))


class _Transport(OrderedTransport):
    """The server's side."""

    _preferred_pubkeys = PLAIN_ALGORITHMS
    auth_handler: Any

    def __init__(
        self,
        sock: socket.socket,
        login: LoginOwner,
        owner: ConnectionOwner,
        keys: list[HostKey],
        offered: algorithms.Algorithms,
    ) -> None:
        super().__init__(sock, offered)
        self.login = login
        self.owner = owner
        self._channels: Channels[Channel] = Channels()
        self.heard_at = time.monotonic()
        self._opening = Opening()
        self._numbering = threading.Lock()
        for key in keys:
            self.server_key_dict[key.algorithm] = _HostKey(key, login)

    def disconnect(self, code: int, text: str) -> None:
        body = DISCONNECT + wire.uint32(code) + wire.string(text) + wire.string("en")
        self._send_message(RawMessage(body))

    def _parse_newkeys(self, m: Message) -> None:
        if self.auth_handler is None:
            self.auth_handler = CertificateAuth(self)
        super()._parse_newkeys(m)

    def _parse_global_request(self, m: Message) -> None:
        reader = reader_of(m)
        kind = reader.string()
        if kind != KEEP_ALIVE:  # these come for as long as a connection stands, weeks even
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
        """Ask the peer for a channel; False when too many are open or asked for, or it is gone."""
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

    def give_up_opening(self) -> None:
        """The peer is gone, and answers nothing."""
        self._opening.end()

    def _touched(self) -> None:
        self.heard_at = time.monotonic()

    def _parse_opened(self, m: Message) -> None:
        reader = reader_of(m)
        waiting = self._opening.take(reader.uint32())
        waiting.confirmed(reader.uint32(), reader.uint32(), reader.uint32())

    def _parse_not_opened(self, m: Message) -> None:
        self._opening.take(reader_of(m).uint32()).failed()

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
    reader = reader_of(m)
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
        login: LoginOwner,
        owner: ConnectionOwner,
        host_keys: list[HostKey],
        *,
        allow_ctr: bool = False,
    ) -> None:
        self._owner = owner
        self._transport = _Transport(sock, login, owner, host_keys, algorithms.offered(allow_ctr))
        self._thread = threading.Thread(target=self._run, name="ssh", daemon=True)

    def start(self) -> None:
        self._transport.server_mode = True
        self._transport.active = True
        self._thread.start()

    def keep_alive(self) -> int:
        """Ask the peer for a sign of life; the number of such questions it has not answered yet."""
        return self._transport.ask_alive()

    def open_channel(
        self, kind: str, body: bytes, opened: Callable[[Channel], Owner], failed: Callable[[], None]
    ) -> bool:
        """Ask the peer for a channel. Any thread; `opened` and `failed` come in the reading thread, one of
        them, once. False: too many channels, or nobody is there any more, and neither is called."""
        return self._transport.open_channel_for(kind, body, opened, failed)

    def end(self, text: str) -> None:
        """Tell the peer why, and hang up."""
        self._transport.hang_up(text)

    def abort(self) -> None:
        """Hang up at once; `ended` follows."""
        self._transport.abort()

    def join(self, timeout_s: float) -> None:
        self._thread.join(timeout_s)

    @property
    def is_over(self) -> bool:
        """Whether nothing can be sent any more."""
        return not self._transport.active

    @property
    def heard_at(self) -> float:
        """When the peer last sent data or a request on a channel (`time.monotonic`); keep-alives are none."""
        return float(self._transport.heard_at)

    @property
    def strict_kex(self) -> bool:
        return bool(self._transport.agreed_on_strict_kex)

    def _run(self) -> None:
        self._transport.run()
        self._transport.give_up_opening()
        problem = self._transport.saved_exception
        self._owner.ended("" if problem is None or isinstance(problem, EOFError) else str(problem))
