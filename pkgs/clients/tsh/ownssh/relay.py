"""One channel and the descriptors on this side, made one: data both ways, back-pressure, ends.

The connection's reading thread tells the channel's events; each is posted to the loop, which does all else.
"""

from __future__ import annotations

import os
import select
from collections import deque
from collections.abc import Callable
from functools import partial

from pkgs.clients.tsh.connections.splice import write_some
from pkgs.clients.tsh.ownssh.limits import READ_BYTES
from pkgs.clients.tsh.ownssh.loop import Loop
from pkgs.common.ssh.client.channel import ClientChannel

STDOUT, STDERR = False, True


class Relay:
    """Owner of a channel; a part of the loop. The descriptors block nobody."""

    def __init__(
        self, loop: Loop, source: int | None, sinks: dict[bool, int], over: Callable[[], None]
    ) -> None:
        self.loop = loop
        self.channel: ClientChannel | None = None
        self._source = source
        self._sinks = sinks
        self._over = over
        self._unsent = b""
        self._is_open = False
        self._far_eof = False
        self._gone = False
        self.finished = False
        self._queues: dict[bool, deque[memoryview]] = {STDOUT: deque(), STDERR: deque()}

    def bind(self, channel: ClientChannel) -> None:
        self.channel = channel

    def begin_with(self, data: bytes) -> None:
        """What was read here already."""
        self._unsent = data

    # The channel's events, in the reading thread.

    def opened(self) -> None:
        self.loop.post(self.on_opened)

    def refused(self, code: int, text: str) -> None:
        self.loop.post(partial(self.on_refused, text))

    def data(self, data: bytes, stderr: bool) -> None:
        self.loop.post(partial(self._on_data, data, stderr))

    def eof(self) -> None:
        self.loop.post(self._on_eof)

    def writable(self) -> None:
        self.loop.post(lambda: None)  # awake, it asks what is wanted

    def answered(self, ok: bool) -> None:
        self.loop.post(partial(self.on_answered, ok))

    def exit_status(self, status: int) -> None:
        """Of sessions only."""

    def exit_signal(self, name: str, core: bool, text: str) -> None:
        """Of sessions only."""

    def closed(self) -> None:
        self.loop.post(self._on_closed)

    # What the loop asks.

    def wants(self) -> dict[int, int]:
        found: dict[int, int] = {}
        if self._unsent and self._is_open:
            self._send(b"")
        if self._source is not None and self._is_open and not self._unsent and self._room():
            found[self._source] = select.POLLIN
        for stderr, queue in self._queues.items():
            if queue:
                sink = self._sinks[stderr]
                found[sink] = found.get(sink, 0) | select.POLLOUT
        return found

    def ready(self, fd: int, events: int) -> None:
        for stderr, queue in self._queues.items():
            if queue and self._sinks[stderr] == fd:
                self._write(stderr)
        if fd == self._source and events & ~select.POLLOUT and not self.finished:
            self._read()

    # The same, in the loop's thread.

    def on_opened(self) -> None:
        self._is_open = True

    def on_refused(self, text: str) -> None:
        self._gone = True
        self._finish()

    def on_answered(self, ok: bool) -> None:
        """Of sessions only."""

    def _on_data(self, data: bytes, stderr: bool) -> None:
        if not self.finished:
            self._queues[stderr].append(memoryview(data))
            self._write(stderr)

    def _on_eof(self) -> None:
        self._far_eof = True
        self._settle()

    def _on_closed(self) -> None:
        self._gone = self._far_eof = True
        self._is_open = False
        self._settle()

    # Here and there.

    def outgoing(self, data: bytes) -> bytes:
        """What goes to the server of what was read here."""
        return data

    def end_of_output(self) -> None:
        """The server has said everything, and it is written."""

    def end_of_input(self) -> None:
        """Nothing more comes from here."""
        self._source = None
        if self.channel is not None and not self._unsent:
            self.channel.send_eof()

    def hang_up(self) -> None:
        """Nobody here wants it any more."""
        for queue in self._queues.values():
            queue.clear()
        if self.channel is not None:
            self.channel.close()
        self._gone = True
        self._finish()

    def _room(self) -> int:
        return self.channel.room() if self.channel is not None else 0

    def _read(self) -> None:
        assert self._source is not None
        try:
            data = os.read(self._source, READ_BYTES)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if data:
            self._send(self.outgoing(data))
        else:
            self.end_of_input()

    def _send(self, data: bytes) -> None:
        self._unsent += data
        if not self._is_open:
            return
        while self._unsent and self.channel is not None and (taken := self.channel.send(self._unsent)):
            self._unsent = self._unsent[taken:]
        if not self._unsent and self._source is None and self.channel is not None:
            self.channel.send_eof()

    def _write(self, stderr: bool) -> None:
        queue = self._queues[stderr]
        try:
            while queue:
                written = write_some(self._sinks[stderr], queue[0])
                if self.channel is not None:
                    self.channel.consumed(written)
                if written < len(queue[0]):
                    queue[0] = queue[0][written:]
                    return
                queue.popleft()
        except OSError:
            # Whoever read it is gone.
            self.hang_up()
            return
        self._settle()

    def _settle(self) -> None:
        if any(self._queues.values()) or self.finished:
            return
        if self._gone:
            self._finish()
        elif self._far_eof:
            self.end_of_output()

    def _finish(self) -> None:
        if not self.finished:
            self.finished = True
            self.loop.remove(self)
            self._over()
