"""Moving a session's bytes between client and server through its conversation, and its facts to the audit.

What the client says goes on when the audit has its facts, so that a server does nothing that is not told even
if this process dies of it; what the server says may go on a moment before (ADR 136).

A side is read only when the other has taken what came before, when our own answers to it have been taken,
when the audit keeps up, and when the conversation has not asked to hear the other side first. So a slow
reader holds back its sender by TCP itself, and memory per session is one read, one step and a few facts.

The relay ends when
- the server has ended, or the client has and the server's last words are out,
- the conversation says so, or raises because a peer broke the protocol,
- somebody calls `end`, for a lock or an expiry,
- a connection breaks, or the task is cancelled.
What was told by then still reaches the audit.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

from pkgs.agents.db import limits
from pkgs.agents.db.engine import Conversation, Fact, Malformed, Step
from pkgs.common.errors import ProtocolError, UnavailableError
from pkgs.common.net.scratch import scratch_of
from pkgs.common.net.stream import Stream

Tell = Callable[[Sequence[Fact]], "asyncio.Future[None]"]
"""Takes facts in their order: they outlive this process when it returns, and are durable when the future is
done. What either raises ends the session."""


@dataclass(frozen=True, slots=True)
class Ended:
    """How it went."""

    sent: int
    """Bytes that the client said."""
    received: int
    """Bytes that the server said."""
    broken: str = ""
    """Text of the error that ended it; empty for an orderly end."""


class _Way:
    """One direction. `owed`: the source has to take an answer of ours before it is read again; `held`: the
    other side has to speak before that."""

    __slots__ = ("ended", "held", "moved", "owed", "passed_on", "reading", "said", "sink", "source")

    def __init__(self, source: Stream, sink: Stream, said: Callable[[memoryview], Step]) -> None:
        self.source = source
        self.sink = sink
        self.said = said
        self.moved = 0
        self.reading = False
        self.owed = False
        self.held = False
        self.ended = False
        self.passed_on = False


class Relay:
    """Of one session; owns both streams from `run` on and closes them."""

    def __init__(self, client: Stream, server: Stream, conversation: Conversation, tell: Tell) -> None:
        self._client = client
        self._server = server
        self._conversation = conversation
        self._tell = tell
        self._loop = asyncio.get_running_loop()
        self._plain = scratch_of(self._loop).plain
        self._up = _Way(client, server, conversation.from_client)
        self._down = _Way(server, client, conversation.from_server)
        self._writing: set[Stream] = set()
        self._facts: list[Fact] = []
        self._told: dict[asyncio.Future[None], int] = {}
        """Facts that are not durable yet."""
        self._pending = 0
        """Of those, and of the ones not told, how many."""
        self._untold: BaseException | None = None
        """Why facts could not be kept."""
        self._over: asyncio.Future[BaseException | None] = self._loop.create_future()
        self._half_closed: asyncio.TimerHandle | None = None
        self._gathering: asyncio.TimerHandle | None = None
        self.heard_at = self._loop.time()
        """Loop time of the client's last bytes, for whoever ends idle sessions."""

    async def run(self) -> Ended:
        """Until the end. Raises ProtocolError when a peer broke the protocol, after telling it, and
        UnavailableError when there is something that could not be told."""
        orderly = False
        try:
            self._settle()
            broken = await self._over
            orderly = not isinstance(broken, OSError)
        finally:
            self._let_go()
            if not orderly:
                self._client.abort()
                self._server.abort()
            await asyncio.gather(self._client.close(), self._server.close(), self._tell_last())
        if self._told:
            raise UnavailableError("the audit did not take what the session came to") from broken
        broken = broken or self._untold
        if broken is not None and not isinstance(broken, OSError):
            raise broken
        return Ended(self._up.moved, self._down.moved, str(broken) if broken is not None else "")

    def end(self, reason: str) -> None:
        """End the session now; the client reads why, where its protocol lets it."""
        if not self._over.done():
            self._finish(self._conversation.refusal(reason), None)

    # --- bytes

    def _pump(self, way: _Way) -> None:
        source = way.source
        try:
            while (count := source.fill(self._plain)) > 0:
                way.moved += count
                if way is self._up:
                    self.heard_at = self._loop.time()
                if not self._take(way, self._plain[:count]):
                    break
                if not source.holds_more:
                    return
            if count == 0:
                way.ended = True
        except (OSError, ssl.SSLError) as exc:
            self._finish(b"", exc if isinstance(exc, OSError) else OSError(str(exc)))
        self._settle()

    def _take(self, way: _Way, data: memoryview) -> bool:
        """Give bytes to the conversation and do what follows. Whether nothing hinders reading on."""
        try:
            step = way.said(data)
        except ProtocolError as exc:
            by: Literal["client", "server"] = "client" if way is self._up else "server"
            self._note([Malformed(by, len(data), exc.message)], before=True)
            self._finish(self._conversation.refusal(f"the {by} broke the protocol: {exc.message}"), exc)
            return False
        except Exception as exc:
            # A fault of ours: nothing that follows could be judged.
            self._finish(self._conversation.refusal("internal error"), exc)
            return False
        if step.facts and not self._note(step.facts, before=way is self._up):
            return False
        taken = way.sink.push(memoryview(step.onward)) if len(step.onward) else True
        if step.back:
            way.owed = not way.source.push(step.back)
        if step.over:
            self._finish(b"", None)
            return False
        other = self._down if way is self._up else self._up
        way.held, released, other.held = step.hold, other.held, False
        return taken and not (way.owed or way.held or released or self._behind)

    def _settle(self) -> None:
        """Read what may be read now, wait for writing where something is unsent."""
        if self._over.done():
            return
        try:
            for way in (self._up, self._down):
                self._settle_end(way)
                self._settle_reading(way)
            self._settle_writing(self._client)
            self._settle_writing(self._server)
        except OSError as exc:
            self._finish(b"", exc)

    def _settle_reading(self, way: _Way) -> None:
        if way.owed and not way.source.unsent:
            way.owed = False
        wanted = not (way.ended or way.owed or way.held or way.sink.unsent or self._behind)
        if wanted and not way.reading:
            self._loop.add_reader(way.source.fileno(), self._pump, way)
            way.reading = True
            if way.source.holds_more:
                # No readiness of the socket will announce it.
                self._loop.call_soon(self._pump_if_reading, way)
        elif way.reading and not wanted:
            self._loop.remove_reader(way.source.fileno())
            way.reading = False

    def _pump_if_reading(self, way: _Way) -> None:
        if way.reading and not self._over.done():
            self._pump(way)

    def _settle_writing(self, stream: Stream) -> None:
        waiting = stream in self._writing
        if stream.unsent and not waiting:
            self._loop.add_writer(stream.fileno(), self._flush, stream)
            self._writing.add(stream)
        elif waiting and not stream.unsent:
            self._loop.remove_writer(stream.fileno())
            self._writing.discard(stream)

    def _flush(self, stream: Stream) -> None:
        try:
            if not stream.flush():
                return
        except OSError as exc:
            self._finish(b"", exc)
        self._settle()

    # --- the end

    def _settle_end(self, way: _Way) -> None:
        if not way.ended or way.passed_on or way.sink.unsent:
            return
        way.passed_on = True
        if way is self._down:
            # A client that waits for its user would not notice, and hold its place until it does.
            self._finish(b"", None)
            return
        way.sink.end_writing()
        self._wait_for_last_words(self._down.moved)

    def _wait_for_last_words(self, moved: int) -> None:
        self._half_closed = self._loop.call_later(limits.HALF_CLOSED_S, self._last_words, moved)

    def _last_words(self, moved_then: int) -> None:
        if self._down.moved == moved_then:
            self._finish(b"", None)
        else:
            self._wait_for_last_words(self._down.moved)

    def _finish(self, last: bytes, exc: BaseException | None) -> None:
        if self._over.done():
            return
        self._let_go()
        self._over.set_result(exc)
        if last:
            try:
                self._client.push(last)
            except (OSError, ssl.SSLError):
                self._client.abort()

    def _let_go(self) -> None:
        if self._half_closed is not None:
            self._half_closed.cancel()
        for way in (self._up, self._down):
            if way.reading:
                self._loop.remove_reader(way.source.fileno())
                way.reading = False
        for stream in self._writing:
            self._loop.remove_writer(stream.fileno())
        self._writing.clear()

    # --- facts

    @property
    def _behind(self) -> bool:
        return self._pending >= limits.FACTS_PENDING_MAX

    def _note(self, facts: Sequence[Fact], *, before: bool) -> bool:
        """Take facts; `before`: they are told before anything else happens. Whether the session goes on."""
        self._facts += facts
        self._pending += len(facts)
        if before or len(self._facts) >= limits.FACTS_GATHERED:
            return self._tell_now()
        if self._gathering is None:
            self._gathering = self._loop.call_later(limits.FACTS_GATHER_S, self._tell_now)
        return True

    def _tell_now(self) -> bool:
        if self._gathering is not None:
            self._gathering.cancel()
            self._gathering = None
        facts, self._facts = self._facts, []
        if not facts:
            return True
        try:
            told = self._tell(facts)
        except Exception as exc:
            self._pending -= len(facts)
            self._fail(exc)
            return False
        if told not in self._told:
            told.add_done_callback(self._durable)
        self._told[told] = self._told.get(told, 0) + len(facts)
        # It may have ended over this: the recording was lost.
        return not self._over.done()

    def _durable(self, told: asyncio.Future[None]) -> None:
        behind = self._behind
        self._pending -= self._told.pop(told)
        if not told.cancelled() and (problem := told.exception()) is not None:
            self._fail(problem)
        elif behind and not self._behind:
            self._settle()

    def _fail(self, problem: BaseException) -> None:
        self._untold = self._untold or problem
        self._finish(self._conversation.refusal("the session cannot be audited"), problem)

    async def _tell_last(self) -> None:
        self._tell_now()
        if self._told:
            await asyncio.wait(self._told, timeout=limits.FACTS_LAST_S)
