"""Moving bytes between two streams until both directions have ended.

A direction reads only when the other side has taken what was read before, so a slow reader holds back
its sender by TCP itself and memory per relay stays at what one read brings. The states of a direction:

    reading --(nothing unsent)--> reading
    reading --(peer is full)----> stalled --(written)--> reading
    reading --(end of stream)---> ended: our close is passed on, the other direction goes on
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable
from dataclasses import dataclass

from pkgs.common.net import limits
from pkgs.common.net.scratch import scratch_of
from pkgs.common.net.stream import Stream


@dataclass(frozen=True, slots=True)
class RelayCounts:
    """Bytes moved, and how it ended."""

    a_to_b: int
    b_to_a: int
    idle: bool = False
    """Ended because nothing moved, or no answer came, for the time given."""
    broken: str = ""
    """Text of the error that ended it; empty for an orderly end."""


class _Direction:
    """One way of a relay. Owns the reader callback of `source` and the writer callback of `sink`."""

    __slots__ = ("_done", "_loop", "_plain", "_sink", "_source", "ended", "moved", "moved_at")

    def __init__(
        self,
        source: Stream,
        sink: Stream,
        loop: asyncio.AbstractEventLoop,
        done: Callable[[OSError | None], None],
    ) -> None:
        self._source = source
        self._sink = sink
        self._loop = loop
        self._plain = scratch_of(loop).plain
        self._done = done
        self.ended = False
        self.moved = 0
        self.moved_at = loop.time()

    def start(self) -> None:
        # Once by hand: bytes that came before the relay are in the stream, not in the socket.
        self._loop.add_reader(self._source.fileno(), self._readable)
        if self._sink.unsent:
            self._stall()
        else:
            self._readable()

    def stop(self) -> None:
        self._loop.remove_reader(self._source.fileno())
        self._loop.remove_writer(self._sink.fileno())

    def _readable(self) -> None:
        try:
            while (count := self._source.fill(self._plain)) > 0:
                self.moved += count
                self.moved_at = self._loop.time()
                if not self._sink.push(self._plain[:count]):
                    self._stall()
                    return
                if not self._source.holds_more:
                    return
            if count == 0:
                self._end()
        except (OSError, ssl.SSLError) as exc:
            self._fail(exc)

    def _stall(self) -> None:
        self._loop.remove_reader(self._source.fileno())
        self._loop.add_writer(self._sink.fileno(), self._writable)

    def _writable(self) -> None:
        try:
            if not self._sink.flush():
                return
            self._loop.remove_writer(self._sink.fileno())
            self.moved_at = self._loop.time()
            self._loop.add_reader(self._source.fileno(), self._readable)
            if self._source.holds_more:
                self._readable()
        except (OSError, ssl.SSLError) as exc:
            self._fail(exc)

    def _end(self) -> None:
        self._loop.remove_reader(self._source.fileno())
        self.ended = True
        self._sink.end_writing()
        self._done(None)

    def _fail(self, exc: OSError) -> None:
        self.stop()
        self._done(exc)


async def relay(
    a: Stream,
    b: Stream,
    *,
    idle_s: float | None = None,
    answer_s: float | None = None,
    half_closed_s: float | None = None,
) -> RelayCounts:
    """Relay until both directions have ended, one breaks, nothing moved for `idle_s` (for `half_closed_s`
    when one direction has ended), or `b` said nothing at all for its first `answer_s`; then both streams are
    closed. A cancelled relay closes them too. Bytes that either stream holds already go first."""
    after_end_s = limits.HALF_CLOSED_IDLE_S if half_closed_s is None else half_closed_s
    loop = asyncio.get_running_loop()
    finished: asyncio.Future[OSError | None] = loop.create_future()
    directions: list[_Direction] = []
    timer: asyncio.TimerHandle | None = None
    idle = False

    def done(exc: OSError | None) -> None:
        if finished.done():
            return
        if exc is not None or all(direction.ended for direction in directions):
            finished.set_result(exc)
        else:
            watch()

    def limit() -> float | None:
        half_closed = any(direction.ended for direction in directions)
        return min(filter(None, (idle_s, after_end_s if half_closed else None)), default=None)

    def watch() -> None:
        nonlocal timer, idle
        if timer is not None:
            timer.cancel()
            timer = None
        after = limit()
        if after is None or finished.done():
            return
        left = after - (loop.time() - max(direction.moved_at for direction in directions))
        if left <= 0:
            idle = True
            finished.set_result(None)
        else:
            timer = loop.call_later(left, watch)

    directions += [_Direction(a, b, loop, done), _Direction(b, a, loop, done)]
    forward, back = directions

    def unanswered() -> None:
        nonlocal idle
        if not back.moved and not finished.done():
            idle = True
            finished.set_result(None)

    answer = loop.call_later(answer_s, unanswered) if answer_s is not None else None
    broken: OSError | None = None
    try:
        forward.start()
        if not finished.done():
            back.start()
        watch()
        broken = await finished
    finally:
        for waiting in (timer, answer):
            if waiting is not None:
                waiting.cancel()
        forward.stop()
        back.stop()
        # The orderly end was passed on above; what is left is to let go of the sockets.
        a.abort()
        b.abort()
    return RelayCounts(forward.moved, back.moved, idle, str(broken) if broken is not None else "")
