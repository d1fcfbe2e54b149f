# mypy: disallow-subclassing-any=False
"""The client's transport: the library does key exchange and packets, this their order, limits and meaning.

The host key is checked inside the key exchange, before anything is sent that is worth having; the login is
one signed request; messages out of order, and channels opened towards us that nobody waits for, get nowhere.
"""

from __future__ import annotations

import socket
import threading
from collections import deque
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
    MSG_SERVICE_ACCEPT,
    MSG_USERAUTH_BANNER,
    MSG_USERAUTH_FAILURE,
    MSG_USERAUTH_SUCCESS,
)
from paramiko.kex_curve25519 import KexCurve25519
from paramiko.message import Message
from paramiko.ssh_exception import SSHException

from pkgs.common.errors import LimitExceededError, TrustError
from pkgs.common.ssh import algorithms, wire
from pkgs.common.ssh.client.channel import ChannelOwner, ClientChannel, IncomingOwner
from pkgs.common.ssh.client.hosts import HostCheck, verify_host_signature
from pkgs.common.ssh.client.limits import MAX_FAREWELL, MAX_SERVER_OPENS
from pkgs.common.ssh.client.login import Login
from pkgs.common.ssh.limits import (
    BANNER_TIMEOUT_S,
    CHANNEL_PACKET,
    MAX_CHANNEL_OPENS,
    MAX_CHANNELS,
    MAX_DEFERRED,
    MAX_GLOBAL_REQUESTS,
    MAX_REQUEST,
    MIN_REMOTE_PACKET,
    READ_TIMEOUT_S,
    WINDOW,
)
from pkgs.common.ssh.owner import OPEN_PROHIBITED
from pkgs.common.ssh.packets import BoundedPacketizer, RawMessage

_CHANNEL_OPEN = b"\x5a"
_OPEN_CONFIRMATION = b"\x5b"
_OPEN_FAILURE = b"\x5c"
GLOBAL_REQUEST = b"\x50"
_REQUEST_FAILURE = b"\x52"
DISCONNECT = b"\x01"
BY_APPLICATION = 11
KEEP_ALIVE = b"keepalive@openssh.com"

Incoming = Callable[[str, wire.Reader], IncomingOwner | None]
"""Asked in the reading thread about a channel that the server wants opened, by its kind and what it says of
it: None refuses. May raise WireError."""
Answered = Callable[[bool, wire.Reader], None]
"""Told in the reading thread how the server answered a global request."""

# The library's type stubs leave out what this room builds on.
_Base: Any = transport.Transport


class _Channels:
    """The connection's channels. (The library's own map forgets them: it holds weak references.)"""

    def __init__(self) -> None:
        self._by_number: dict[int, ClientChannel] = {}

    def put(self, number: int, channel: ClientChannel) -> None:
        self._by_number[number] = channel

    def get(self, number: int) -> ClientChannel | None:
        return self._by_number.get(number)

    def delete(self, number: int) -> None:
        self._by_number.pop(number, None)

    def values(self) -> list[ClientChannel]:
        return list(self._by_number.values())

    def __len__(self) -> int:
        return len(self._by_number)


class _Authentication:
    """What the library takes for its authentication handler."""

    def __init__(self, transport: Transport, login: Login) -> None:
        self._transport = transport
        self._login = login
        self._handler_table: dict[int, Callable[[Message], None]] = {
            MSG_SERVICE_ACCEPT: self._accepted,
            MSG_USERAUTH_SUCCESS: self._success,
            MSG_USERAUTH_FAILURE: self._failure,
            MSG_USERAUTH_BANNER: self._banner,
        }

    def is_authenticated(self) -> bool:
        return self._login.succeeded

    def abort(self) -> None:
        """Nobody waits in here."""

    def _accepted(self, m: Message) -> None:
        request = self._login.request(self._transport.session_id, _reader(m))
        self._transport.post(request)

    def _success(self, _: Message) -> None:
        self._login.take_success()
        self._transport.settled.set()

    def _failure(self, _: Message) -> None:
        self._login.take_failure()
        raise SSHException("the login was refused")

    def _banner(self, m: Message) -> None:
        self._login.take_banner(_reader(m).string())


class Transport(_Base):
    """The library's transport with our lists, limits and order."""

    _CLIENT_ID = algorithms.VERSION
    _active_check_timeout = READ_TIMEOUT_S
    _preferred_kex = algorithms.KEX
    # The same key agreement under its standard name, which the library lacks.
    _kex_info = {**_Base._kex_info, "curve25519-sha256": KexCurve25519}

    active: bool
    session_id: bytes

    def __init__(self, sock: socket.socket, host: HostCheck, login: Login) -> None:
        super().__init__(
            sock,
            default_window_size=WINDOW,
            default_max_packet_size=CHANNEL_PACKET,
            packetizer_class=BoundedPacketizer,
        )
        offered = algorithms.offered()
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
                MSG_REQUEST_SUCCESS: self._parse_success,
                MSG_REQUEST_FAILURE: self._parse_failure,
            }
        )
        self.settled = threading.Event()
        """Logged in, or over."""
        self.untrusted: TrustError | None = None
        self.farewell = ""
        self.unanswered = 0
        self.incoming: Incoming | None = None
        self._asked: deque[Answered] = deque()
        self._asking = threading.Lock()
        self._host = host
        self._host_blob = b""
        self._login = login
        self._deferred: list[RawMessage] = []
        self._deferred_bytes = 0
        self._opens = 0
        self._global_requests = 0
        self.auth_handler = _Authentication(self, login)

    @property
    def preferred_keys(self) -> tuple[str, ...]:
        return self._host.algorithms

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

    def ask(self, kind: bytes, body: bytes, answered: Answered) -> None:
        """A global request. The server answers in the order of asking (RFC 4254 section 4)."""
        with self._asking:
            self._asked.append(answered)
            self.unanswered += 1
            self.post(GLOBAL_REQUEST + wire.string(kind) + wire.boolean(True) + body)

    def open(self, kind: str, body: bytes, owner: ChannelOwner) -> ClientChannel:
        with self.lock:
            if len(self._channels) >= MAX_CHANNELS:
                raise LimitExceededError("too many channels in one connection")
            channel = ClientChannel(self.post, self._next_channel(), owner)
            self._channels.put(channel.number, channel)
            self.channels_seen[channel.number] = True
        head = _CHANNEL_OPEN + wire.string(kind) + wire.uint32(channel.number)
        self.post(head + wire.uint32(WINDOW) + wire.uint32(CHANNEL_PACKET) + body)
        return channel

    def _verify_key(self, host_key: bytes, signature: bytes) -> None:
        """Asked by the key exchange, each time: the right server, and the same one all along."""
        blob = bytes(host_key)
        try:
            verify_host_signature(self.host_key_type, blob, bytes(signature), self.H)
            if self._host_blob and blob != self._host_blob:
                raise TrustError("the server changed its host key")
            if not self._host_blob:
                self._host.check(blob)
        except TrustError as problem:
            self.untrusted = problem
            raise SSHException("the server is not trusted") from problem
        self._host_blob = blob

    def _parse_newkeys(self, m: Message) -> None:
        if self.kex_engine is None:
            raise SSHException("NEWKEYS outside a key exchange")
        if not self._host_blob:
            raise SSHException("NEWKEYS before the host key")
        first = not self.initial_kex_done
        super()._parse_newkeys(m)
        with self.clear_to_send_lock:
            for message in self._deferred:
                self._send_message(message)
            self._deferred.clear()
            self._deferred_bytes = 0
        if first:
            self.post(self._login.ask_service())

    def _ensure_authed(self, ptype: int, message: Message) -> None:
        if ptype > HIGHEST_USERAUTH_MESSAGE_ID and not self.is_authenticated():
            raise SSHException("message before authentication")

    def _parse_ignored(self, _: Message) -> None:
        """Nothing a server may announce here changes anything."""

    def _parse_success(self, m: Message) -> None:
        self._take_answer(True, m)

    def _parse_failure(self, m: Message) -> None:
        self._take_answer(False, m)

    def _take_answer(self, ok: bool, m: Message) -> None:
        self.unanswered = 0
        with self._asking:
            answered = self._asked.popleft() if self._asked else None
        if answered is not None:
            answered(ok, _reader(m))

    def _parse_disconnect(self, m: Message) -> None:
        reader = _reader(m)
        reader.uint32()
        self.farewell = reader.string().decode(errors="replace")[:MAX_FAREWELL]

    def _parse_global_request(self, m: Message) -> None:
        reader = _reader(m)
        if reader.string() != KEEP_ALIVE:
            self._global_requests += 1
        if self._global_requests > MAX_GLOBAL_REQUESTS:
            raise SSHException("too many global requests")
        if reader.boolean():
            self.post(_REQUEST_FAILURE)

    def _parse_channel_open(self, m: Message) -> None:
        reader = _reader(m)
        kind, remote = reader.text(), reader.uint32()
        window, packet = reader.uint32(), reader.uint32()
        self._opens += 1
        if self._opens > (MAX_SERVER_OPENS if self.incoming is None else MAX_CHANNEL_OPENS):
            raise SSHException("too many channels from the server")
        # Without somebody who waits for it, nothing was asked to be sent here.
        owner = self.incoming(kind, reader) if self.incoming is not None else None
        if owner is None or len(self._channels) >= MAX_CHANNELS or packet < MIN_REMOTE_PACKET:
            head = _OPEN_FAILURE + wire.uint32(remote) + wire.uint32(OPEN_PROHIBITED)
            self.post(head + wire.string("no channel is expected here") + wire.string("en"))
            return
        with self.lock:
            number = self._next_channel()
            channel = ClientChannel(self.post, number, owner)
            self._channels.put(number, channel)
            self.channels_seen[number] = True
        owner.bind(channel)
        self.post(
            _OPEN_CONFIRMATION + wire.uint32(remote) + wire.uint32(number)
            + wire.uint32(WINDOW) + wire.uint32(CHANNEL_PACKET)
        )  # fmt: skip
        channel.take_confirmation(remote, window, min(packet, CHANNEL_PACKET))

    def _parse_opened(self, m: Message) -> None:
        reader = _reader(m)
        channel, remote = self._channel(reader.uint32()), reader.uint32()
        window, packet = reader.uint32(), reader.uint32()
        if packet < MIN_REMOTE_PACKET:  # attack A66
            raise SSHException("maximum packet size is too small")
        channel.take_confirmation(remote, window, min(packet, CHANNEL_PACKET))

    def _parse_not_opened(self, m: Message) -> None:
        reader = _reader(m)
        channel, code = self._channel(reader.uint32()), reader.uint32()
        self._channels.delete(channel.number)
        channel.take_refusal(code, reader.string().decode(errors="replace"))

    def _channel(self, number: int) -> ClientChannel:
        channel = self._channels.get(number)
        if channel is None:
            raise SSHException("no such channel")
        return channel

    def forget(self, channel: ClientChannel) -> None:
        self._channels.delete(channel.number)
        channel.vanish()

    def _on_close(self, channel: ClientChannel, _: Message) -> None:
        self.forget(channel)

    @property
    def _channel_handler_table(self) -> dict[int, Callable[[ClientChannel, Message], None]]:
        return {**_HANDLERS, MSG_CHANNEL_CLOSE: self._on_close}


def _reader(m: Message) -> wire.Reader:
    body = m.get_remainder()
    if len(body) > MAX_REQUEST:
        raise SSHException("message is too long")
    return wire.Reader(body)


def _on_data(channel: ClientChannel, m: Message) -> None:
    channel.take_data(m.get_binary(), stderr=False)


def _on_extended(channel: ClientChannel, m: Message) -> None:
    m.get_int()  # there is one kind: the error stream
    channel.take_data(m.get_binary(), stderr=True)


def _on_adjust(channel: ClientChannel, m: Message) -> None:
    channel.take_adjust(m.get_int())


def _on_eof(channel: ClientChannel, _: Message) -> None:
    channel.take_eof()


def _on_request(channel: ClientChannel, m: Message) -> None:
    channel.take_request(_reader(m))


def _on_success(channel: ClientChannel, _: Message) -> None:
    channel.take_answer(True)


def _on_failure(channel: ClientChannel, _: Message) -> None:
    channel.take_answer(False)


_HANDLERS: dict[int, Callable[[ClientChannel, Message], None]] = {
    MSG_CHANNEL_DATA: _on_data,
    MSG_CHANNEL_EXTENDED_DATA: _on_extended,
    MSG_CHANNEL_WINDOW_ADJUST: _on_adjust,
    MSG_CHANNEL_EOF: _on_eof,
    MSG_CHANNEL_REQUEST: _on_request,
    MSG_CHANNEL_SUCCESS: _on_success,
    MSG_CHANNEL_FAILURE: _on_failure,
}
