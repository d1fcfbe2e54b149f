"""A channel that speaks SFTP. Works in the connection's reading thread alone: no copy, no wake-up.

Replies that the client does not read yet are held, and while there are many of them no further request is
taken up: the client's own window bounds what can wait (attack A66).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

from pkgs.agents.ssh.session.sftp.limits import HOLD
from pkgs.agents.ssh.session.sftp.server import FileServer
from pkgs.agents.ssh.session.sftp.wire import Packets
from pkgs.common.ssh.channel import Channel, Reply
from pkgs.common.ssh.requests import ChannelRequest
from pkgs.common.ssh.wire import WireError


class Transfer:
    """Owner of an SFTP channel."""

    def __init__(
        self, channel: Channel, server: FileServer, over: Callable[[int, int, int, str], None]
    ) -> None:
        self._channel = channel
        self._server = server
        self._over: Callable[[int, int, int, str], None] | None = over
        self._packets = Packets()
        self._replies: deque[bytes] = deque()
        self._held = 0
        self._received = 0
        self._sent = 0
        self._unread = 0
        self._eof = False

    def opened(self) -> None:
        """The client speaks first."""

    def request(self, request: ChannelRequest, reply: Reply) -> None:
        reply(False)

    def data(self, data: bytes) -> None:
        self._received += len(data)
        self._unread += len(data)
        self._packets.feed(data)
        self._work()

    def eof(self) -> None:
        self._eof = True
        self._work()

    def writable(self) -> None:
        self._work()

    def closed(self) -> None:
        self._end(255, "the client went away")

    def _work(self) -> None:
        if self._over is None:
            return
        try:
            while self._flush() and (packet := self._packets.take()) is not None:
                self._reply(self._server.answer(*packet))
        except WireError as problem:
            self._end(255, problem.message)
            return
        if self._held < HOLD and self._unread:
            # What is buffered is at most the start of one packet.
            self._channel.consumed(self._unread)
            self._unread = 0
        if self._eof and not self._replies:
            self._end(0, "")

    def _reply(self, data: bytes) -> None:
        self._replies.append(data)
        self._held += len(data)

    def _flush(self) -> bool:
        """Send what the window allows. True while few enough replies wait for more to be made."""
        while self._replies:
            head = self._replies[0]
            taken = self._channel.send(head)
            self._held -= taken
            self._sent += taken
            if taken == len(head):
                self._replies.popleft()
                continue
            self._replies[0] = head[taken:]
            if taken == 0:
                break
        return self._held < HOLD

    def _end(self, status: int, error: str) -> None:
        over, self._over = self._over, None
        if over is None:
            return
        self._server.close()
        self._channel.exit_status(status)
        self._channel.send_eof()
        self._channel.close()
        over(status, self._received, self._sent, error)
