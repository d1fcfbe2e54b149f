"""A user's channel and one on the server, made one: data with back-pressure, ends, and for sessions requests.

Two reading threads meet here: the user's and the server's. What goes up is moved under one lock, what comes
down under another; neither waits for the other side to read. A request of the user's that the server must
answer holds up that user's connection until it has.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable

from pkgs.common.ssh.channel import Channel, Reply
from pkgs.common.ssh.client.channel import ClientChannel
from pkgs.common.ssh.requests import ChannelRequest


class Relay:
    """Owner of the user's channel. `Far` is the owner of the server's."""

    def __init__(self, channel: Channel) -> None:
        self.channel = channel
        self.far: ClientChannel | None = None
        self.received = 0
        self.sent = 0
        self._up = threading.Lock()
        self._down = threading.Lock()
        self._to_far: deque[bytes] = deque()
        self._to_user: deque[tuple[bytes, bool]] = deque()
        self._user_ended = False
        self._far_ended = False
        self._far_gone = False
        self._user_gone = False
        self._released = True
        """Whether what came from the server may go to the user already."""
        self._finished = False

    # The user's side, in its reading thread.

    def opened(self) -> None:
        """Nothing to send that does not come from the server."""

    def request(self, request: ChannelRequest, reply: Reply) -> None:
        reply(False)

    def data(self, data: bytes) -> None:
        with self._up:
            self.received += len(data)
            self._to_far.append(data)
            self._push_up()

    def eof(self) -> None:
        with self._up:
            self._user_ended = True
            self._push_up()

    def writable(self) -> None:
        with self._down:
            self._push_down()

    def closed(self) -> None:
        self._user_gone = True
        if self.far is not None:
            self.far.close()
        with self._down:
            self._to_user.clear()
            self._finish()

    # The server's side, in its reading thread.

    def far_data(self, data: bytes, stderr: bool) -> None:
        with self._down:
            self._to_user.append((data, stderr))
            self._push_down()

    def far_eof(self) -> None:
        with self._down:
            self._far_ended = True
            self._push_down()

    def far_writable(self) -> None:
        with self._up:
            self._push_up()

    def far_closed(self) -> None:
        with self._down:
            self._far_ended = self._far_gone = True
            self._push_down()

    def _push_up(self) -> None:
        if self.far is None or not self.far.is_open:
            return
        while self._to_far:
            head = self._to_far[0]
            taken = self.far.send(head)
            self.channel.consumed(taken)
            if taken < len(head):
                self._to_far[0] = head[taken:]
                if taken == 0:
                    return
            else:
                self._to_far.popleft()
        if self._user_ended:
            self.far.send_eof()

    def _push_down(self) -> None:
        if not self._released or self._finished:
            return
        while self._to_user:
            head, stderr = self._to_user[0]
            taken = self.channel.send(head, stderr=stderr)
            self.sent += taken
            if self.far is not None:
                self.far.consumed(taken)
            if taken < len(head):
                self._to_user[0] = head[taken:], stderr
                if taken == 0:
                    return
            else:
                self._to_user.popleft()
        if self._far_gone:
            self._finish()
        elif self._far_ended:
            self._half_closed()

    def _half_closed(self) -> None:
        """The server sends no more and everything is delivered; its channel is open still."""
        self.channel.send_eof()

    def _finish(self) -> None:
        """The end, once: everything is delivered, or there is nobody to deliver it to."""
        if self._finished:
            return
        self._finished = True
        self._say_end()
        self.channel.send_eof()
        self.channel.close()

    def _say_end(self) -> None:
        """What is told before the channel closes."""


class Far:
    """Owner of the server's channel: tells the relay."""

    def __init__(self, relay: Relay) -> None:
        self._relay = relay
        self.settled = threading.Event()
        """Opened or refused."""
        self.refusal: tuple[int, str] | None = None

    def opened(self) -> None:
        self.settled.set()

    def refused(self, code: int, text: str) -> None:
        self.refusal = (code, text)
        self.settled.set()

    def data(self, data: bytes, stderr: bool) -> None:
        self._relay.far_data(data, stderr)

    def eof(self) -> None:
        self._relay.far_eof()

    def writable(self) -> None:
        self._relay.far_writable()

    def answered(self, ok: bool) -> None:
        """A forwarding asks for nothing."""

    def exit_status(self, status: int) -> None:
        """A forwarding runs nothing."""

    def exit_signal(self, name: str, core: bool, text: str) -> None:
        """A forwarding runs nothing."""

    def closed(self) -> None:
        self._relay.far_closed()


class ForwardRelay(Relay):
    """A `direct-tcpip` channel. `started`, `failed` and `over` are called at most once each."""

    def __init__(
        self,
        channel: Channel,
        started: Callable[[], None],
        failed: Callable[[str, int], None],
        over: Callable[[ForwardRelay, bool], None],
    ) -> None:
        super().__init__(channel)
        self.far_owner = _FarForward(self)
        self._started = started
        self._failed = failed
        self._over = over
        self._was_open = False

    def far_opened(self) -> None:
        self._was_open = True
        self._started()
        if self._user_gone:
            if self.far is not None:
                self.far.close()
            return
        self.channel.confirm()
        with self._up:
            self._push_up()

    def far_refused(self, code: int, text: str) -> None:
        with self._down:
            if not self._finished:
                self._finished = True
                self._failed(text, code)
                self._over(self, False)

    def _say_end(self) -> None:
        self._over(self, self._was_open)


class _FarForward(Far):
    def __init__(self, relay: ForwardRelay) -> None:
        super().__init__(relay)
        self._forward = relay

    def opened(self) -> None:
        self._forward.far_opened()

    def refused(self, code: int, text: str) -> None:
        self._forward.far_refused(code, text)
