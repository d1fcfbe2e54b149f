"""One command on a server, run to its end."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass

from pkgs.common.errors import DeniedError, LimitExceededError, UnavailableError
from pkgs.common.ssh.client.channel import ClientChannel
from pkgs.common.ssh.client.connection import Connection
from pkgs.common.ssh.client.limits import MAX_CAPTURED, OPEN_S


@dataclass(frozen=True, slots=True)
class Result:
    stdout: bytes
    stderr: bytes
    status: int
    """255 when the server did not say, or a signal ended the command."""
    signal: str = ""


class Capture:
    """Owner of a channel that keeps what comes, up to a limit."""

    def __init__(self, begin: Callable[[ClientChannel], None], stdin: bytes = b"") -> None:
        self.over = threading.Event()
        self.ready = threading.Event()
        """Opened, or never to be."""
        self.refusal: tuple[int, str] | None = None
        self.answers: list[bool] = []
        self.signal = ""
        self.status = 255
        self.told = False
        """The server has said how the command ended."""
        self.too_much = False
        self.channel: ClientChannel | None = None
        self._begin = begin
        self._stdin = stdin
        self._sending = threading.Lock()
        """The thread that began and the one that reads both send input."""
        self._out: dict[bool, list[bytes]] = {False: [], True: []}
        self._size = 0

    def bind(self, channel: ClientChannel) -> None:
        """Once it is open as well: begin."""
        self.channel = channel
        if not self.ready.wait(OPEN_S) or self.refusal is not None:
            return
        self._begin(channel)
        self.writable()

    def output(self, *, stderr: bool = False) -> bytes:
        return b"".join(self._out[stderr])

    def opened(self) -> None:
        self.ready.set()

    def refused(self, code: int, text: str) -> None:
        self.refusal = (code, text)
        self.ready.set()
        self.over.set()

    def data(self, data: bytes, stderr: bool) -> None:
        self._size += len(data)
        if self._size > MAX_CAPTURED:
            self.too_much = True
            self.over.set()
            return
        self._out[stderr].append(data)
        if self.channel is not None:
            self.channel.consumed(len(data))

    def eof(self) -> None:
        """The status, and the end of the channel, are still to come."""

    def writable(self) -> None:
        if self.channel is None:
            return
        with self._sending:
            while self._stdin:
                taken = self.channel.send(self._stdin)
                if taken == 0:
                    return
                self._stdin = self._stdin[taken:]
            self.channel.send_eof()

    def answered(self, ok: bool) -> None:
        self.answers.append(ok)
        if not ok and self.channel is not None:
            self.channel.close()  # a refused request is the end of it

    def exit_status(self, status: int) -> None:
        self.status, self.told = status, True

    def exit_signal(self, name: str, core: bool, text: str) -> None:
        self.signal, self.told = name, True

    def closed(self) -> None:
        self.over.set()


def run(connection: Connection, command: bytes, *, stdin: bytes = b"", deadline_s: float) -> Result:
    """Run it without a terminal. Raises DeniedError, LimitExceededError and UnavailableError."""
    capture = Capture(lambda channel: channel.exec(command), stdin)
    capture.bind(connection.open_session(capture))
    if not capture.over.wait(deadline_s):
        raise UnavailableError("the command did not end in time")
    if capture.too_much:
        connection.abort()
        raise LimitExceededError("the command says more than is kept")
    if capture.refusal is not None or capture.answers[:1] == [False]:
        raise DeniedError("the server refuses to run the command")
    if not capture.told and not connection.alive:
        raise UnavailableError("the connection to the server was lost")
    return Result(capture.output(), capture.output(stderr=True), capture.status, capture.signal)
