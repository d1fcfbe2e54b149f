"""The bytes of one resumable connection, between its client's stream and its own process.

    attached --(stream lost)--> waiting --(client is back)--> attached
        |                          |--(a minute)--> over
        '--(both sides have ended)--> over

Either direction stops at its own slow side. What neither takes is held here, within bounds.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import Callable

from pkgs.agents.ssh.resume.limits import HELD_ALWAYS, HELD_TOTAL, LINGER_S
from pkgs.common.errors import ProtocolError
from pkgs.common.net.resume.limits import CHUNK, KEPT_S, SEND_MAX
from pkgs.common.net.resume.state import Resumable
from pkgs.common.net.scratch import scratch_of
from pkgs.common.net.sockets import tune
from pkgs.common.net.stream import Stream

_WOULD_BLOCK = (BlockingIOError, InterruptedError)


class Budget:
    """Bytes held by all pipes of a service."""

    def __init__(self, total: int = HELD_TOTAL) -> None:
        self.total = total
        self.held = 0

    def permits(self, held: int, always: int) -> bool:
        """Whether a pipe that holds so much one way may hold more, as it may up to `always` in any case."""
        return held < always or self.held < self.total


class Pipe:
    """Owns `local`, one end of a socket pair whose other end is the process's. Call from the loop only."""

    def __init__(
        self,
        local: socket.socket,
        budget: Budget,
        is_kept: Callable[[], bool],
        on_over: Callable[[str], None],
        *,
        kept_s: float = KEPT_S,
    ) -> None:
        """`is_kept` says whether the loss of the stream leaves anything to come back to; `on_over` is told
        why, once, and with nothing when both sides ended."""
        tune(local)
        self._local = local
        self._fd = local.fileno()
        self._loop = asyncio.get_running_loop()
        self._plain = scratch_of(self._loop).plain
        self._state = Resumable()
        self._budget = budget
        self._held = 0
        self._is_kept = is_kept
        self._on_over = on_over
        self._kept_s = kept_s
        self._stream: Stream | None = None
        self._parted: asyncio.Future[None] | None = None
        self._inbox = bytearray()
        """What the process has not taken yet."""
        self._reading = {"local": False, "stream": False}
        self._writing = {"local": False, "stream": False}
        self._deaf = False
        """The process takes nothing any more."""
        self._ended = False
        """It has said all."""
        self._told_end = False
        self._timer: asyncio.TimerHandle | None = None
        self.over = False

    @property
    def is_attached(self) -> bool:
        return self._stream is not None

    async def carry(self, stream: Stream, *, again: bool) -> None:
        """Until this stream is no longer this pipe's: lost, replaced, or everything was said. The caller
        closes it. A stream that was there before is let go: the newest wins."""
        if self.over:
            return
        if self._stream is not None:
            self._part()
        self._stop_timer()
        if again:
            self._state.lost()
            self._state.attach()
        self._stream = stream
        parted = self._parted = self._loop.create_future()
        self._attempt(self._start)
        try:
            await parted
        finally:
            if self._parted is parted:
                # Cancelled: the stream is closed under us.
                self._lose()

    def close(self, why: str) -> None:
        """End it now, whatever is still held."""
        if self.over:
            return
        self.over = True
        self._stop_timer()
        if self._stream is not None:
            self._part()
        self._watch_local(read=False, write=False)
        self._local.close()
        self._inbox.clear()
        self._budget.held -= self._held
        self._held = 0
        self._on_over(why)

    # --- what happens to the stream

    def _attempt(self, step: Callable[[], None]) -> None:
        """Do something, and then what follows from it for everything else."""
        try:
            step()
            self._send()
        except ProtocolError as problem:
            self.close(problem.message)
        except (OSError, ssl.SSLError):
            self._lose()
        if not self.over:
            self._settle()

    def _start(self) -> None:
        assert self._stream is not None
        # Once by hand: bytes that came before are in the stream, not in the socket.
        self._stream_readable()

    def _stream_readable(self) -> None:
        stream = self._stream
        while stream is not None and self._takes_more():
            count = stream.fill(self._plain)
            if count < 0:
                return
            if count == 0:
                self._lose()
                return
            self._stop_timer()
            if data := self._state.receive(self._plain[:count]):
                self._deliver(data)
            if not stream.holds_more:
                return

    def _takes_more(self) -> bool:
        if not self._inbox:
            return True
        # The network holds back the client; but for an acknowledgement that we wait for: it is behind what
        # the client sent, of which an honest one keeps no more than SEND_MAX.
        waits = self._state.held > 0 and not self._local_room()
        return waits and self._budget.permits(len(self._inbox), SEND_MAX)

    def _lose(self) -> None:
        """The stream is gone."""
        if self._stream is None:
            return
        self._part()
        self._stop_timer()
        self._state.lost()
        if self._state.peer_closed or not self._is_kept():
            self.close("")
        else:
            why = "its client did not come back in time"
            self._timer = self._loop.call_later(self._kept_s, self.close, why)

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _part(self) -> None:
        self._watch_stream(read=False, write=False)
        self._stream = None
        parted, self._parted = self._parted, None
        if parted is not None and not parted.done():
            parted.set_result(None)

    def _send(self) -> None:
        """Everything there is for the peer, as far as the stream takes it."""
        stream = self._stream
        while stream is not None and not stream.unsent and (data := self._state.pull()):
            stream.push(data)

    # --- what happens to the process

    def _deliver(self, data: memoryview) -> None:
        if not self._inbox:
            data = data[self._to_local(data) :]
        if not self._deaf:
            self._inbox += data

    def _to_local(self, data: memoryview | bytearray) -> int:
        """How many bytes need not be kept any more."""
        sent = len(data)
        if not self._deaf:
            try:
                sent = self._local.send(data)
            except _WOULD_BLOCK:
                sent = 0
            except OSError:
                # What it said before it went is still to be read; what comes for it is nobody's.
                self._deaf = True
        self._state.consumed(sent)
        return sent

    def _local_writable(self) -> None:
        while self._inbox:
            sent = self._to_local(self._inbox[:CHUNK])
            if not sent:
                return
            del self._inbox[:sent]
        if self._stream is not None:
            self._stream_readable()  # it may hold what no readiness announces

    def _local_readable(self) -> None:
        room = self._local_room()
        if not room:
            return
        try:
            # A fresh buffer of this size would cost more system calls than what is read into it.
            count = self._local.recv_into(self._plain[: min(room, CHUNK)])
        except _WOULD_BLOCK:
            return
        except OSError:
            count = 0
        if count:
            self._state.put(bytes(self._plain[:count]))
        else:
            self._state.end()
            self._ended = True

    def _local_room(self) -> int:
        if self._ended:
            return 0
        return self._state.room if self._budget.permits(self._state.held, HELD_ALWAYS) else 0

    # --- after every event

    def _settle(self) -> None:
        """Watch for what can be done now, and notice the end."""
        held = self._state.held + len(self._inbox)
        self._budget.held += held - self._held
        self._held = held
        if self._state.peer_closed and not self._inbox and not self._told_end:
            self._told_end = True
            if not self._deaf:
                try:
                    self._local.shutdown(socket.SHUT_WR)
                except OSError:
                    self._deaf = True
        stream = self._stream
        unsent = stream.unsent if stream is not None else 0
        if self._state.over and not unsent and not self._inbox:
            self.close("")
            return
        if self._ended and stream is not None and self._timer is None and not unsent:
            # Its process is gone: a client that neither takes the rest nor ends is not waited for.
            self._timer = self._loop.call_later(LINGER_S, self.close, "")
        self._watch_local(read=self._local_room() > 0, write=bool(self._inbox))
        if stream is not None:
            self._watch_stream(read=self._takes_more(), write=unsent > 0)

    def _watch_local(self, *, read: bool, write: bool) -> None:
        self._watch(self._fd, "local", read, write, self._local_readable, self._local_writable)

    def _watch_stream(self, *, read: bool, write: bool) -> None:
        if self._stream is not None:
            self._watch(
                self._stream.fileno(), "stream", read, write, self._stream_readable, self._stream_writable
            )

    def _stream_writable(self) -> None:
        if self._stream is not None:
            self._stream.flush()

    def _watch(
        self,
        fd: int,
        name: str,
        read: bool,
        write: bool,
        on_read: Callable[[], None],
        on_write: Callable[[], None],
    ) -> None:
        if read != self._reading[name]:
            self._reading[name] = read
            if read:
                self._loop.add_reader(fd, self._attempt, on_read)
            else:
                self._loop.remove_reader(fd)
        if write != self._writing[name]:
            self._writing[name] = write
            if write:
                self._loop.add_writer(fd, self._attempt, on_write)
            else:
                self._loop.remove_writer(fd)
