"""The process's end of the monitor pair: ordered calls to the service, and word from it.

Calls may come from any thread, one at a time. The process's loop thread owns reading, so a call must not be
made from the loop thread itself.
"""

from __future__ import annotations

import queue
import socket
import threading
from collections.abc import Callable
from typing import Any, TypeVar

import msgspec

from pkgs.common.errors import ProtocolError, UnavailableError
from pkgs.common.ssh.limits import CALL_TIMEOUT_S, MAX_MESSAGE
from pkgs.common.ssh.process.descriptors import close_all, receive
from pkgs.common.ssh.process.loop import READ, Loop
from pkgs.common.ssh.process.messages import End, Message

A = TypeVar("A", bound=Message)

Decoder = msgspec.msgpack.Decoder[Message]

_MAX_FDS = 1
_ENCODER = msgspec.msgpack.Encoder()


def answers(types: Any) -> Decoder:
    """A decoder of `End` and this union of messages. Made once, before processes are forked."""
    return msgspec.msgpack.Decoder(types | End)


class Link:
    """`decoder` (made by `answers`) knows what the service may send; of these, the `pushed` types answer no
    call and go to `on_pushed` with their descriptors. All callbacks come in the loop's thread."""

    def __init__(
        self,
        sock: socket.socket,
        loop: Loop,
        decoder: Decoder,
        on_end: Callable[[str], None],
        pushed: tuple[type[Message], ...] = (),
        on_pushed: Callable[[Message, list[int]], None] | None = None,
    ) -> None:
        self._sock = sock
        self._loop = loop
        self._decoder = decoder
        self._calling = threading.Lock()
        self._answers: queue.SimpleQueue[Message | None] = queue.SimpleQueue()
        self._on_end = on_end
        self._pushed = pushed
        self._on_pushed = on_pushed
        self.closed = False
        loop.watch(sock.fileno(), READ, self._pump)

    def tell(self, message: Message) -> None:
        """Send without an answer. Waits while the service is behind: that is the back-pressure."""
        if not self.closed:
            try:
                self._sock.send(_ENCODER.encode(message))
            except OSError:
                self._close("the service is gone")

    def call(self, message: Message, *accepted: type[A]) -> A:
        """Send and wait for the answer, which must be one of `accepted`. Raises UnavailableError."""
        with self._calling:
            self.tell(message)
            try:
                answer = self._answers.get(timeout=CALL_TIMEOUT_S)
            except queue.Empty:
                self._close("the service does not answer")
                raise UnavailableError("the service does not answer") from None
            if answer is None:
                raise UnavailableError("the service is gone")
            if not isinstance(answer, accepted):
                self._close("the service answered out of order")
                raise ProtocolError("the service answered out of order")
            return answer

    def _pump(self) -> None:
        """Take one message."""
        try:
            data, fds, cut = receive(self._sock, MAX_MESSAGE, _MAX_FDS, socket.MSG_DONTWAIT)
        except BlockingIOError:
            return
        except OSError:
            data, fds, cut = b"", [], False
        if not data or cut:
            close_all(fds)
            self._close("the service is gone")
            return
        try:
            message = self._decoder.decode(data)
        except (msgspec.DecodeError, msgspec.ValidationError):
            close_all(fds)
            self._close("the service sent something unknown")
            return
        if isinstance(message, End):
            close_all(fds)
            self._on_end(message.text)
        elif isinstance(message, self._pushed) and self._on_pushed is not None:
            self._on_pushed(message, fds)
        else:
            close_all(fds)
            self._answers.put(message)

    def _close(self, reason: str) -> None:
        if not self.closed:
            self.closed = True
            self._answers.put(None)
            self._loop.call_soon(lambda: self._closed(reason))

    def _closed(self, reason: str) -> None:
        self._loop.unwatch(self._sock.fileno())
        self._on_end(reason)
