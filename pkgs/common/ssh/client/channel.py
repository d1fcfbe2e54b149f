"""One channel that we opened: what is asked of the server, and where its events go. Knows no socket.

    opening --confirmed--> open --send_eof--> input shut --close--> closing --(server: close)--> gone
            --refused--> gone

As on the server's side `send` never blocks. Callbacks come in the connection's reading thread.
"""

from __future__ import annotations

from typing import Protocol

from pkgs.common.errors import LimitExceededError
from pkgs.common.ssh import wire
from pkgs.common.ssh.channel import Channel, Post, Reply
from pkgs.common.ssh.client.limits import MAX_PENDING_REQUESTS
from pkgs.common.ssh.limits import MAX_REQUESTS_PER_CHANNEL
from pkgs.common.ssh.requests import ChannelRequest, TerminalSize

_REQUEST = b"\x62"
_FAILURE = b"\x64"


class ChannelOwner(Protocol):
    """Who the events of a channel go to."""

    def opened(self) -> None:
        """The server has opened it: requests and data may be sent."""

    def refused(self, code: int, text: str) -> None:
        """The server does not open it; nothing else follows. The text is the server's."""

    def data(self, data: bytes, stderr: bool) -> None:
        """Output, at most as much as was granted. The owner says `consumed` later."""

    def eof(self) -> None:
        """No more output; input may still be wanted."""

    def writable(self) -> None:
        """There is room again after a `send` that could not take everything."""

    def answered(self, ok: bool) -> None:
        """The answer to the oldest request that asked for one."""

    def exit_status(self, status: int) -> None:
        """How the command ended."""

    def exit_signal(self, name: str, core: bool, text: str) -> None:
        """The signal that ended it, without SIG."""

    def closed(self) -> None:
        """It is gone, with the connection or without. Called once, unless it was refused."""


class IncomingOwner(ChannelOwner, Protocol):
    """The owner of a channel that the server opened."""

    def bind(self, channel: ClientChannel) -> None:
        """The channel, said before `opened`."""


class ClientChannel:
    """A session or a forwarding on a server."""

    def __init__(self, post: Post, number: int, owner: ChannelOwner) -> None:
        self.number = number
        self.owner = owner
        self._post = post
        self._channel: Channel | None = None
        self._remote = b""
        self._unanswered = 0
        self._requests = 0
        self._stderr = False
        self._gone = False

    @property
    def is_open(self) -> bool:
        return self._channel is not None and not self._channel.sent_close and not self._gone

    # Data and end.

    def send(self, data: bytes) -> int:
        """As much as the window allows; the number of bytes taken. What goes to a gone channel is dropped."""
        return len(data) if self._channel is None else self._channel.send(data)

    def room(self) -> int:
        """Bytes `send` would take now. With none, `writable` will be called."""
        return 0 if self._channel is None else self._channel.room()

    def consumed(self, size: int) -> None:
        if self._channel is not None:
            self._channel.consumed(size)

    def send_eof(self) -> None:
        if self._channel is not None:
            self._channel.send_eof()

    def close(self) -> None:
        if self._channel is not None:
            self._channel.close()

    # Requests. With `reply` the answer comes as `answered`, in the order of asking.

    def pty(self, term: str, size: TerminalSize, modes: bytes = b"\0", *, reply: bool = True) -> None:
        """`modes` are encoded terminal modes (RFC 4254 section 8)."""
        self.request("pty-req", wire.string(term) + _size(size) + wire.string(modes), reply=reply)

    def env(self, name: str, value: str, *, reply: bool = False) -> None:
        self.request("env", wire.string(name) + wire.string(value), reply=reply)

    def shell(self, *, reply: bool = True) -> None:
        self.request("shell", reply=reply)

    def exec(self, command: bytes, *, reply: bool = True) -> None:
        self.request("exec", wire.string(command), reply=reply)

    def subsystem(self, name: str, *, reply: bool = True) -> None:
        self.request("subsystem", wire.string(name), reply=reply)

    def window_change(self, size: TerminalSize) -> None:
        self.request("window-change", _size(size), reply=False)

    def signal(self, name: str) -> None:
        """`name` without SIG."""
        self.request("signal", wire.string(name), reply=False)

    def request(self, kind: str, body: bytes = b"", *, reply: bool) -> None:
        """Any other. Raises LimitExceededError when the server leaves too many unanswered."""
        if not self.is_open:
            return
        if reply:
            if self._unanswered >= MAX_PENDING_REQUESTS:
                raise LimitExceededError("the server answers no requests")
            self._unanswered += 1
        self._post(_REQUEST + self._remote + wire.string(kind) + wire.boolean(reply) + body)

    # What the connection calls, in its reading thread.

    def take_confirmation(self, remote: int, window: int, packet: int) -> None:
        """Raises WireError when it was open already."""
        if self._channel is not None:
            raise wire.WireError("the server opened a channel twice")
        self._remote = wire.uint32(remote)
        self._channel = Channel(self._post, self.number, remote, window, packet)
        self._channel.owner = _Sink(self)
        self.owner.opened()

    def take_refusal(self, code: int, text: str) -> None:
        if self._channel is not None:
            raise wire.WireError("the server refused a channel that is open")
        self._gone = True
        self.owner.refused(code, text)

    def take_data(self, data: bytes, *, stderr: bool) -> None:
        self._stderr = stderr
        self._there().take_data(data)

    def take_adjust(self, size: int) -> None:
        self._there().take_adjust(size)

    def take_eof(self) -> None:
        self._there().take_eof()

    def take_answer(self, ok: bool) -> None:
        if self._unanswered == 0:
            raise wire.WireError("the server answered what was not asked")
        self._unanswered -= 1
        self.owner.answered(ok)

    def take_request(self, reader: wire.Reader) -> None:
        self._requests += 1
        if self._requests > MAX_REQUESTS_PER_CHANNEL:
            raise wire.WireError("too many requests on a channel")
        kind, reply = reader.text(), reader.boolean()
        if kind == "exit-status":
            self.owner.exit_status(reader.uint32())
        elif kind == "exit-signal":
            name, core = reader.text(), reader.boolean()
            self.owner.exit_signal(name, core, reader.string().decode(errors="replace"))
        elif reply:  # a keep-alive, or something a client has no answer for
            self._post(_FAILURE + self._remote)

    def vanish(self) -> None:
        """The server closed it, or the connection is gone."""
        if self._gone:
            return
        self._gone = True
        if self._channel is not None:
            self._channel.vanish()
            self.owner.closed()
        else:
            self.owner.refused(0, "the connection was lost")

    def _unlink(self) -> None:
        """Name under which the library says that the connection is gone."""
        self.vanish()

    def _there(self) -> Channel:
        if self._channel is None:
            raise wire.WireError("the server used a channel before it was open")
        return self._channel

    def sink(self, data: bytes) -> None:
        self.owner.data(data, self._stderr)


class _Sink:
    """Owner of the inner channel: what it tells goes to the outer one's owner."""

    def __init__(self, channel: ClientChannel) -> None:
        self._channel = channel

    def opened(self) -> None:
        """Said when the server confirmed it."""

    def data(self, data: bytes) -> None:
        self._channel.sink(data)

    def eof(self) -> None:
        self._channel.owner.eof()

    def writable(self) -> None:
        self._channel.owner.writable()

    def request(self, request: ChannelRequest, reply: Reply) -> None:
        """Requests of a server are read by the outer channel."""

    def closed(self) -> None:
        """Said by the outer channel."""


def _size(size: TerminalSize) -> bytes:
    return b"".join(map(wire.uint32, (size.columns, size.rows, size.width, size.height)))
