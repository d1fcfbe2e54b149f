"""Bytes between one channel and what runs in it: input as it can be written, output as the client reads.

    attached --output ends--> empty        attached --what ran has ended, its output rests--> empty

`write` runs in the connection's reading thread, everything else in the loop's. Nothing is cut while the
client still reads.
"""

from __future__ import annotations

import errno
import math
import os
import time
from collections.abc import Callable

from pkgs.agents.ssh.limits import DRAIN_S, READS_PER_TURN, TERMINAL_REST_S
from pkgs.agents.ssh.session.process import Launched
from pkgs.agents.ssh.session.stdin import Stdin
from pkgs.agents.ssh.session.terminal import read_available
from pkgs.agents.ssh.together.limits import TYPED_AHEAD
from pkgs.common.ssh.channel import Channel
from pkgs.common.ssh.limits import CHUNK
from pkgs.common.ssh.process.loop import READ, WRITE, Loop, Timer

Show = Callable[[bytes, bool], None]
"""Output for the client, as much as its window has room for, and whether of the error stream."""


class Pump:
    """`held`: output waits; `emptied`: it has all been shown, or nobody holds its end any more."""

    def __init__(
        self,
        channel: Channel,
        loop: Loop,
        show: Show,
        *,
        held: Callable[[], bool],
        emptied: Callable[[], None],
    ) -> None:
        self.master = -1
        """The terminal, while there is one."""
        self._channel = channel
        self._loop = loop
        self._show = show
        self._held = held
        self._emptied = emptied
        self._outputs: dict[int, bool] = {}
        """Descriptors, and whether what they give is of the error stream."""
        self._blocked: set[int] = set()
        self._stdin = Stdin(channel.consumed)
        self._stdin_ended = False
        self._drain: Timer | None = None
        self._drain_until = math.inf

    @property
    def is_empty(self) -> bool:
        """Whether no output can come."""
        return not self._outputs

    def write(self, data: bytes) -> None:
        """Input of the client."""
        if not self._stdin.write(data):
            self._loop.call_soon(self._watch_input)

    def inject(self, data: bytes) -> None:
        """Input of somebody else."""
        self._stdin.inject(data, TYPED_AHEAD)
        self._watch_input()

    def attach(self, launched: Launched) -> None:
        if launched.pipes is None:
            self.master = launched.master
            self._outputs = {launched.master: False}
            input_fd = launched.master
        else:
            self._outputs = {launched.pipes.stdout: False, launched.pipes.stderr: True}
            input_fd = launched.pipes.stdin
        self._stdin.attach(input_fd)
        for fd in {*self._outputs, input_fd}:
            self._watch(fd)
        if self._stdin_ended:
            self.end_input()

    def unblock(self) -> None:
        """The client has read, or output waits no longer."""
        blocked, self._blocked = self._blocked, set()
        for fd in blocked:
            self._watch(fd)

    def turn_to(self, channel: Channel) -> None:
        """Output is for another channel from now on."""
        self._channel = channel
        self.unblock()

    def end_input(self) -> None:
        """The client sends no more."""
        self._stdin_ended = True
        if not self._stdin.pending and self._stdin.fd >= 0:
            self.close_input()

    def close_input(self) -> None:
        """What could not be written yet goes nowhere."""
        if self.master >= 0:
            return  # a terminal stays whole: its output is still wanted
        fd = self._stdin.detach()
        if fd >= 0:
            self._loop.unwatch(fd)
            os.close(fd)

    def ran(self) -> None:
        """What ran has ended: output that something else holds open is not waited for without end."""
        if self.master >= 0:
            # Who has logged out of a terminal is not kept by what goes on in its background.
            self._drain_until = time.monotonic() + DRAIN_S
        if self._outputs:
            self._arm_drain()

    def close(self) -> None:
        """Nothing is moved any more."""
        for fd in list(self._outputs):
            self._close_output(fd)
        self.close_input()

    def stop(self) -> None:
        """Nothing is waited for any more."""
        if self._drain is not None:
            self._drain.cancel()
        self.close_input()

    def _watch(self, fd: int) -> None:
        """Watch a descriptor for what is wanted of it now. A terminal is one for both ways."""
        wanted = READ if fd in self._outputs and fd not in self._blocked else 0
        if fd == self._stdin.fd and self._stdin.pending:
            wanted |= WRITE
        if wanted:
            self._loop.watch(fd, wanted, lambda: self._ready(fd))
        else:
            self._loop.unwatch(fd)

    def _watch_input(self) -> None:
        if self._stdin.fd >= 0:
            self._watch(self._stdin.fd)

    def _ready(self, fd: int) -> None:
        if fd == self._stdin.fd and self._stdin.pending:
            self._stdin.flush()
            if self._stdin_ended and not self._stdin.pending:
                self.close_input()
            self._watch(fd)
        if fd in self._outputs and fd not in self._blocked:
            self._read(fd)

    def _read(self, fd: int) -> None:
        """Move what there is, as far as the client's window allows, a bounded number of chunks."""
        stderr = self._outputs[fd]
        for _ in range(READS_PER_TURN):
            room = self._channel.room() if not self._held() else 0
            if room == 0:
                self._blocked.add(fd)
                self._watch(fd)
                return
            try:
                data = read_available(fd, min(room, CHUNK))
            except BlockingIOError:
                return
            except OSError as problem:
                if problem.errno != errno.EIO:  # EIO: nobody holds the terminal any more
                    raise
                data = b""
            if not data:
                self._close_output(fd)
                return
            if self._drain is not None and time.monotonic() < self._drain_until:
                self._arm_drain()
            self._show(data, stderr)

    def _close_output(self, fd: int) -> None:
        self._loop.unwatch(fd)
        self._blocked.discard(fd)
        del self._outputs[fd]
        if fd == self.master:
            self._stdin.detach()
            self.master = -1
        os.close(fd)
        if not self._outputs:
            self._emptied()

    def _arm_drain(self) -> None:
        if self._drain is not None:
            self._drain.cancel()
        rest_s = DRAIN_S if self.master < 0 else TERMINAL_REST_S
        self._drain = self._loop.after(rest_s, self._drained)

    def _drained(self) -> None:
        if self._blocked:
            self._arm_drain()  # the client reads slowly: what is there is still delivered
            return
        for fd in list(self._outputs):
            self._close_output(fd)
