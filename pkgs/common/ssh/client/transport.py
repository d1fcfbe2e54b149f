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

from paramiko.common import (
    MSG_CHANNEL_CLOSE,
    MSG_CHANNEL_DATA,
    MSG_CHANNEL_EOF,
    MSG_CHANNEL_EXTENDED_DATA,
    MSG_CHANNEL_FAILURE,
    MSG_CHANNEL_REQUEST,
    MSG_CHANNEL_SUCCESS,
    MSG_CHANNEL_WINDOW_ADJUST,
    MSG_REQUEST_FAILURE,
    MSG_REQUEST_SUCCESS,
    MSG_SERVICE_ACCEPT,
    MSG_USERAUTH_BANNER,
    MSG_USERAUTH_FAILURE,
    MSG_USERAUTH_SUCCESS,
)
from paramiko.message import Message
from paramiko.ssh_exception import SSHException

from pkgs.common.errors import LimitExceededError, TrustError
from pkgs.common.ssh import algorithms, wire
from pkgs.common.ssh.client.channel import ChannelOwner, ClientChannel, IncomingOwner
from pkgs.common.ssh.client.hosts import HostCheck, verify_host_signature
from pkgs.common.ssh.client.limits import MAX_FAREWELL, MAX_SERVER_OPENS
from pkgs.common.ssh.client.login import Login
from pkgs.common.ssh.limits import (
    CHANNEL_PACKET,
    MAX_CHANNEL_OPENS,
    MAX_CHANNELS,
    MAX_GLOBAL_REQUESTS,
    MIN_REMOTE_PACKET,
    WINDOW,
)
from pkgs.common.ssh.owner import OPEN_PROHIBITED
from pkgs.common.ssh.transport import KEEP_ALIVE, Channels, OrderedTransport, reader_of

_CHANNEL_OPEN = b"\x5a"
_OPEN_CONFIRMATION = b"\x5b"
_OPEN_FAILURE = b"\x5c"
_GLOBAL_REQUEST = b"\x50"
_REQUEST_FAILURE = b"\x52"

Incoming = Callable[[str, wire.Reader], IncomingOwner | None]
"""Asked in the reading thread about a channel that the server wants opened, by its kind and what it says of
it: None refuses. May raise WireError."""
Answered = Callable[[bool, wire.Reader], None]
"""Told in the reading thread how the server answered a global request."""


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
        request = self._login.request(self._transport.session_id, reader_of(m))
        self._transport.post(request)

    def _success(self, _: Message) -> None:
        self._login.take_success()
        self._transport.settled.set()

    def _failure(self, _: Message) -> None:
        self._login.take_failure()
        raise SSHException("the login was refused")

    def _banner(self, m: Message) -> None:
        self._login.take_banner(reader_of(m).string())


class Transport(OrderedTransport):
    """The client's side."""

    session_id: bytes

    def __init__(self, sock: socket.socket, host: HostCheck, login: Login) -> None:
        super().__init__(sock, algorithms.offered())
        self._channels: Channels[ClientChannel] = Channels()
        self._handler_table[MSG_REQUEST_SUCCESS] = self._parse_success
        self._handler_table[MSG_REQUEST_FAILURE] = self._parse_failure
        self.incoming: Incoming | None = None
        self._asked: deque[Answered] = deque()
        self._asking = threading.Lock()
        self.settled = threading.Event()
        """Logged in, or over."""
        self.untrusted: TrustError | None = None
        self.farewell = ""
        self._host = host
        self._host_blob = b""
        self._over = False
        self._login = login
        self.auth_handler = _Authentication(self, login)

    @property
    def preferred_keys(self) -> tuple[str, ...]:
        return self._host.algorithms

    @property
    def unanswered(self) -> int:
        """Global requests since the last answer."""
        return int(self._unanswered)

    def ask(self, kind: bytes, body: bytes, answered: Answered) -> None:
        """A global request. The server answers in the order of asking (RFC 4254 section 4)."""
        with self._asking:
            self._asked.append(answered)
            self._unanswered += 1
            self.post(_GLOBAL_REQUEST + wire.string(kind) + wire.boolean(True) + body)

    def ask_alive(self) -> int:
        self.ask(KEEP_ALIVE, b"", lambda ok, reader: None)
        return self.unanswered

    def open(self, kind: str, body: bytes, owner: ChannelOwner) -> ClientChannel:
        with self.lock:
            if len(self._channels) >= MAX_CHANNELS:
                raise LimitExceededError("too many channels in one connection")
            channel = ClientChannel(self.post, self._next_channel(), owner)
            self._channels.put(channel.number, channel)
            self.channels_seen[channel.number] = True
            over = self._over
        if over:
            self.forget(channel)  # nobody else will tell its owner
            return channel
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
        if not self._host_blob:
            raise SSHException("NEWKEYS before the host key")
        first = not self.initial_kex_done
        super()._parse_newkeys(m)
        if first:
            self.post(self._login.ask_service())

    def _parse_disconnect(self, m: Message) -> None:
        reader = reader_of(m)
        reader.uint32()
        self.farewell = reader.string().decode(errors="replace")[:MAX_FAREWELL]

    def _parse_global_request(self, m: Message) -> None:
        reader = reader_of(m)
        if reader.string() != KEEP_ALIVE:
            self._global_requests += 1
        if self._global_requests > MAX_GLOBAL_REQUESTS:
            raise SSHException("too many global requests")
        if reader.boolean():
            self.post(_REQUEST_FAILURE)

    def _parse_success(self, m: Message) -> None:
        self._take_answer(True, m)

    def _parse_failure(self, m: Message) -> None:
        self._take_answer(False, m)

    def _take_answer(self, ok: bool, m: Message) -> None:
        self._unanswered = 0
        with self._asking:
            answered = self._asked.popleft() if self._asked else None
        if answered is not None:
            answered(ok, reader_of(m))

    def _parse_channel_open(self, m: Message) -> None:
        reader = reader_of(m)
        kind, remote = reader.text(), reader.uint32()
        window, packet = reader.uint32(), reader.uint32()
        self._opens += 1
        if self._opens > (MAX_SERVER_OPENS if self.incoming is None else MAX_CHANNEL_OPENS):
            raise SSHException("too many channels from the server")
        # Without somebody who waits for it, nothing was asked to be sent here. Asked last: an owner who was
        # made for a channel must get one.
        fits = len(self._channels) < MAX_CHANNELS and packet >= MIN_REMOTE_PACKET
        owner = self.incoming(kind, reader) if fits and self.incoming is not None else None
        if owner is None:
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
        reader = reader_of(m)
        channel, remote = self._channel(reader.uint32()), reader.uint32()
        window, packet = reader.uint32(), reader.uint32()
        if packet < MIN_REMOTE_PACKET:  # attack A66
            raise SSHException("maximum packet size is too small")
        channel.take_confirmation(remote, window, min(packet, CHANNEL_PACKET))

    def _parse_not_opened(self, m: Message) -> None:
        reader = reader_of(m)
        channel, code = self._channel(reader.uint32()), reader.uint32()
        self._channels.delete(channel.number)
        channel.take_refusal(code, reader.string().decode(errors="replace"))

    def _channel(self, number: int) -> ClientChannel:
        channel = self._channels.get(number)
        if channel is None:
            raise SSHException("no such channel")
        return channel

    def forget_all(self) -> None:
        """The connection is over: so are all channels, and those that are opened from now on."""
        with self.lock:
            self._over = True
            channels = self._channels.values()
        for channel in channels:
            self.forget(channel)

    def forget(self, channel: ClientChannel) -> None:
        self._channels.delete(channel.number)
        channel.vanish()

    def _on_close(self, channel: ClientChannel, _: Message) -> None:
        self.forget(channel)

    @property
    def _channel_handler_table(self) -> dict[int, Callable[[ClientChannel, Message], None]]:
        return {**_HANDLERS, MSG_CHANNEL_CLOSE: self._on_close}


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
    channel.take_request(reader_of(m))


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
