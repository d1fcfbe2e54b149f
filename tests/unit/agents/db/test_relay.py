"""The relay of database sessions: bytes both ways, answers of ours, facts, and every way to end."""

from __future__ import annotations

import asyncio
import hashlib
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import pytest

from pkgs.agents.db import limits
from pkgs.agents.db.engine import Fact, Malformed, Statement, Step
from pkgs.agents.db.relay import Ended, Relay
from pkgs.common.errors import ProtocolError, UnavailableError
from pkgs.common.net.stream import Stream
from tests.harness.wait import until
from tests.unit.net.loops import on_each_loop, run
from tests.unit.net.test_net_stream import PAIRS, each_pair


class Plain:
    """Passes everything on, and tells what the client said."""

    def from_client(self, data: memoryview) -> Step:
        return Step(data, facts=[Statement(bytes(data[:20]).decode("latin-1"))])

    def from_server(self, data: memoryview) -> Step:
        return Step(data)

    def refusal(self, text: str) -> bytes:
        return b"!" + text.encode()


@dataclass
class Wired:
    """A relay that runs, and the far ends of its two streams."""

    user: Stream
    database: Stream
    client: Stream
    relay: Relay
    task: asyncio.Task[Ended]
    facts: list[Fact] = field(default_factory=list)

    async def stopped(self) -> None:
        for stream in (self.user, self.database):
            stream.abort()
        await asyncio.wait((self.task,))


async def wire(
    kind: str, conversation: Plain, *, tell: Callable[[Sequence[Fact]], object] | None = None
) -> Wired:
    user, client = await PAIRS[kind]()
    server, database = await PAIRS[kind]()
    facts: list[Fact] = []

    async def keep(told: Sequence[Fact]) -> None:
        if tell is not None:
            waiting = tell(told)
            if asyncio.iscoroutine(waiting):
                await waiting
        facts.extend(told)

    relay = Relay(client, server, conversation, lambda told: asyncio.ensure_future(keep(told)))
    task = asyncio.create_task(relay.run())
    return Wired(user, database, client, relay, task, facts)


async def read_all(stream: Stream) -> bytes:
    whole = b""
    while piece := await stream.read_some():
        whole += piece
    return whole


@on_each_loop
@each_pair
def test_bytes_pass_both_ways_and_facts_come_in_order(kind: str, loop: str) -> None:
    async def scene() -> None:
        wired = await wire(kind, Plain())
        for word in (b"one", b"two", b"three"):
            wired.user.write(word)
            assert await wired.database.read_exactly(len(word)) == word
            wired.database.write(word.upper())
            assert await wired.user.read_exactly(len(word)) == word.upper()
        await wired.user.close()
        assert await wired.database.read_some() == b""
        wired.database.abort()
        ended = await wired.task
        assert (ended.sent, ended.received) == (11, 11)
        assert wired.facts == [Statement("one"), Statement("two"), Statement("three")]

    run(scene(), loop)


@on_each_loop
@each_pair
def test_what_a_stream_holds_before_the_relay_goes_first(kind: str, loop: str) -> None:
    async def scene() -> None:
        user, client = await PAIRS[kind]()
        server, database = await PAIRS[kind]()
        user.write(b"early bird")
        assert await client.peek(3) == b"ear"

        async def ignore(_: Sequence[Fact]) -> None: ...

        task = asyncio.create_task(
            Relay(client, server, Plain(), lambda told: asyncio.ensure_future(ignore(told))).run()
        )
        assert await database.read_exactly(10) == b"early bird"
        user.abort()
        database.abort()
        await task

    run(scene(), loop)


@on_each_loop
@each_pair
def test_a_slow_reader_holds_its_sender_back_and_loses_nothing(kind: str, loop: str) -> None:
    async def scene() -> None:
        wired = await wire(kind, Plain())
        payload = os.urandom(1024 * 1024)
        count = 24

        async def flood() -> None:
            for _ in range(count):
                wired.database.write(payload)
                await wired.database.drain()
            await wired.database.close()

        flooding = asyncio.create_task(flood())
        await until(lambda: wired.client.unsent)
        assert wired.client.unsent < 1024 * 1024
        digest = hashlib.sha256()
        while piece := await wired.user.read_some():
            digest.update(piece)
            assert wired.client.unsent < 1024 * 1024
        await flooding
        assert digest.digest() == hashlib.sha256(payload * count).digest()
        assert (await wired.task).received == len(payload) * count
        await wired.stopped()

    run(scene(), loop, 60.0)


class Answering(Plain):
    """Answers every read itself, and passes nothing on."""

    def from_client(self, data: memoryview) -> Step:
        return Step(back=bytes(len(data)) * 16)


@on_each_loop
@each_pair
def test_a_client_that_does_not_read_our_answers_is_not_read_either(kind: str, loop: str) -> None:
    async def scene() -> None:
        wired = await wire(kind, Answering())

        async def flood() -> None:
            for _ in range(64):
                wired.user.write(bytes(64 * 1024))
                await wired.user.drain()

        flooding = asyncio.create_task(flood())
        await until(lambda: wired.client.unsent)
        assert wired.client.unsent <= 16 * 512 * 1024
        expected = 64 * 64 * 1024 * 16
        while expected:
            expected -= len(await wired.user.read_some())
        await flooding
        await wired.stopped()

    run(scene(), loop, 60.0)


@on_each_loop
def test_an_audit_that_is_behind_holds_the_bytes_back(loop: str) -> None:
    async def scene() -> None:
        gate = asyncio.Event()
        wired = await wire("raw", Plain(), tell=lambda _: gate.wait())
        word = bytes(1000)
        sent = 0

        async def chatter() -> None:
            nonlocal sent
            for _ in range(3 * limits.FACTS_PENDING_MAX):
                wired.user.write(word)
                await wired.database.read_exactly(len(word))
                sent += 1

        chatting = asyncio.create_task(chatter())
        await until(lambda: wired.relay._behind)
        assert not chatting.done()
        # Some are being told, the others wait.
        assert sent <= limits.FACTS_GATHERED + limits.FACTS_PENDING_MAX + 1
        gate.set()
        await chatting
        await wired.stopped()
        assert len(wired.facts) == 3 * limits.FACTS_PENDING_MAX

    run(scene(), loop)


class Alternating(Plain):
    """Hears the server after each word of the client's."""

    def from_client(self, data: memoryview) -> Step:
        return Step(data, hold=True)


@on_each_loop
@each_pair
def test_a_side_that_is_held_is_read_again_when_the_other_has_spoken(kind: str, loop: str) -> None:
    async def scene() -> None:
        wired = await wire(kind, Alternating())
        wired.user.write(b"one")
        assert await wired.database.read_exactly(3) == b"one"
        wired.user.write(b"two")
        await wired.user.drain()
        assert not wired.relay._up.reading
        wired.database.write(b"go on")
        assert await wired.user.read_exactly(5) == b"go on"
        assert await wired.database.read_exactly(3) == b"two"
        await wired.stopped()

    run(scene(), loop)


class Parting(Plain):
    def from_client(self, data: memoryview) -> Step:
        return Step(data, back=b"bye", facts=[Statement("quit")], over=True)


@on_each_loop
@each_pair
def test_over_sends_everything_and_closes_both(kind: str, loop: str) -> None:
    async def scene() -> None:
        wired = await wire(kind, Parting())
        wired.user.write(b"quit")
        assert await read_all(wired.user) == b"bye"
        assert await read_all(wired.database) == b"quit"
        assert (await wired.task).broken == ""
        assert wired.facts == [Statement("quit")]
        await wired.stopped()

    run(scene(), loop)


class Picky(Plain):
    def from_client(self, data: memoryview) -> Step:
        if data[:1] == b"?":
            raise ProtocolError("that was no message")
        return super().from_client(data)


@on_each_loop
@each_pair
def test_a_broken_protocol_is_told_and_answered(kind: str, loop: str) -> None:
    async def scene() -> None:
        wired = await wire(kind, Picky())
        wired.user.write(b"?" + bytes(5000))
        assert await read_all(wired.user) == b"!the client broke the protocol: that was no message"
        assert await read_all(wired.database) == b""
        with pytest.raises(ProtocolError):
            await wired.task
        await wired.stopped()
        assert wired.facts == [Malformed("client", 5001, "that was no message")]

    run(scene(), loop)


@on_each_loop
@each_pair
def test_an_end_from_outside_tells_the_client_why(kind: str, loop: str) -> None:
    async def scene() -> None:
        wired = await wire(kind, Plain())
        wired.user.write(b"hello")
        await wired.database.read_exactly(5)
        wired.relay.end("locked")
        assert await read_all(wired.user) == b"!locked"
        assert await read_all(wired.database) == b""
        await wired.task
        wired.relay.end("once more, for nothing")
        await wired.stopped()

    run(scene(), loop)


@on_each_loop
@each_pair
def test_the_last_words_of_the_server_reach_a_client_that_has_ended(kind: str, loop: str) -> None:
    async def scene() -> None:
        wired = await wire(kind, Plain())
        wired.user.write(b"that is all")
        await wired.user.drain()
        wired.user.write_eof()
        assert await read_all(wired.database) == b"that is all"
        wired.database.write(b"and the answer")
        await wired.database.close()
        assert await read_all(wired.user) == b"and the answer"
        assert (await wired.task).broken == ""
        await wired.stopped()

    run(scene(), loop)


@on_each_loop
def test_a_server_that_never_answers_a_vanished_client_is_left(
    loop: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "HALF_CLOSED_S", 0.05)

    async def scene() -> None:
        wired = await wire("raw", Plain())
        wired.user.abort()
        assert (await wired.task).broken == ""
        wired.database.abort()

    run(scene(), loop)


@on_each_loop
@each_pair
def test_the_end_of_the_server_ends_the_session(kind: str, loop: str) -> None:
    async def scene() -> None:
        wired = await wire(kind, Plain())
        wired.database.write(b"shutting down")
        await wired.database.close()
        assert await read_all(wired.user) == b"shutting down"
        await wired.task
        await wired.stopped()

    run(scene(), loop)


@on_each_loop
def test_a_cancelled_relay_closes_both_and_tells_what_it_knows(loop: str) -> None:
    async def scene() -> None:
        wired = await wire("tls", Plain())
        wired.user.write(b"hello")
        await wired.database.read_exactly(5)
        wired.task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await wired.task
        assert wired.facts == [Statement("hello")]
        assert await read_all(wired.user) == b""
        assert await read_all(wired.database) == b""
        await wired.stopped()

    run(scene(), loop)


@on_each_loop
def test_an_audit_that_fails_ends_the_session(loop: str) -> None:
    async def scene() -> None:
        async def fail(_: Sequence[Fact]) -> None:
            raise RuntimeError("no room for it")

        wired = await wire("raw", Plain(), tell=fail)
        wired.user.write(b"hello")
        assert (await read_all(wired.user)).startswith(b"!the session cannot be audited")
        with pytest.raises(RuntimeError, match="no room"):
            await wired.task
        await wired.stopped()

    run(scene(), loop)


@on_each_loop
def test_an_audit_that_takes_nothing_ends_the_session_and_is_named(
    loop: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "FACTS_LAST_S", 0.1)

    async def scene() -> None:
        taken = asyncio.Event()
        wired = await wire(next(iter(PAIRS)), Plain(), tell=lambda facts: taken.wait())
        wired.user.write(b"hello")
        assert await wired.database.read_exactly(5) == b"hello"
        wired.user.abort()
        wired.database.abort()
        with pytest.raises(UnavailableError, match="the audit did not take"):
            await wired.task
        taken.set()
        await until(lambda: len(asyncio.all_tasks()) == 1)

    run(scene(), loop)


@on_each_loop
def test_what_the_audit_cannot_take_does_not_reach_the_server(loop: str) -> None:
    async def scene() -> None:
        def fail(_: Sequence[Fact]) -> asyncio.Future[None]:
            raise UnavailableError("no room for it")

        user, client = await PAIRS["raw"]()
        server, database = await PAIRS["raw"]()
        task = asyncio.create_task(Relay(client, server, Plain(), fail).run())
        user.write(b"hello")
        assert (await read_all(user)).startswith(b"!the session cannot be audited")
        assert await read_all(database) == b""
        with pytest.raises(UnavailableError, match="no room"):
            await task
        user.abort()
        database.abort()

    run(scene(), loop)
