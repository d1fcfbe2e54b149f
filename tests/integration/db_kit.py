"""A Database Service without a cluster: an engine behind a loopback port, with decisions from a dict.

A client of the test is where a user's is inside TLS. The service runs in a thread of its own, so that tests
may use blocking clients."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
import threading
from collections.abc import Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace

import uvloop

from pkgs.agents.db.engine import Asked, Conversation, Engine, Fact, Granted
from pkgs.agents.db.relay import Relay
from pkgs.agents.db.unrestricted import check_restricts
from pkgs.common.errors import AccessError, DeniedError
from pkgs.common.net.dial import dial_tcp
from pkgs.common.net.stream import Stream, adopt
from pkgs.common.net.tls import load_chain
from pkgs.common.resources.kinds import Database
from pkgs.common.resources.kinds.infrastructure import DatabaseSpec
from pkgs.common.resources.metadata import Metadata
from pkgs.common.resources.role import UNRESTRICTED
from pkgs.common.resources.role import DbConditions as Restrictions
from tests.harness.ports import free_port
from tests.harness.wait import wait_for
from tests.unit.net import certs


def done() -> asyncio.Future[None]:
    future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    future.set_result(None)
    return future


@dataclass
class Policy:
    """Who may be whom, and what has been told."""

    database: Database
    users: frozenset[str] = frozenset(("alice",))
    restrictions: Restrictions = UNRESTRICTED
    default_user: str = "alice"
    """Whom the certificate names."""
    asked: list[Asked] = field(default_factory=list)
    facts: list[Fact] = field(default_factory=list)
    errors: list[AccessError] = field(default_factory=list)
    greeted_as: int = 0
    """The number that a proxy said it greeted the clients by; 0: it did not."""
    relays: list[Relay] = field(default_factory=list)
    loop: asyncio.AbstractEventLoop | None = None
    begun: int = 0
    ended: int = 0

    def settle(self) -> None:
        """Returns when every session has ended, so that all of it has been told."""
        wait_for(lambda: self.begun and self.begun == self.ended, what="the sessions to end")

    def end_last(self, reason: str) -> None:
        """What a lock does to the session begun last."""
        assert self.loop is not None
        self.loop.call_soon_threadsafe(self.relays[-1].end, reason)


def database(protocol: str, uri: str) -> Database:
    return Database(metadata=Metadata(name="db"), spec=DatabaseSpec(protocol=protocol, uri=uri))


class Dropped(list):  # type: ignore[type-arg]
    """Facts that nobody wants to see."""

    def __iadd__(self, facts: object) -> Dropped:  # type: ignore[override,misc]
        return self


class FakeSession:
    user = "bob"

    def __init__(self, policy: Policy, engine: Engine) -> None:
        self._policy = policy
        self._engine = engine
        self._granted = ""

    @property
    def database(self) -> Database:
        return self._policy.database

    @property
    def greeted_as(self) -> int:
        return self._policy.greeted_as

    async def authorize(self, asked: Asked) -> Granted:
        self._policy.asked.append(asked)
        user = asked.user or self._policy.default_user
        if user not in self._policy.users:
            raise DeniedError(f'you may not be "{user}" in this database')
        self._granted = user
        check_restricts(self._engine, self._policy.restrictions, self.database.spec.protocol)
        return Granted(user, asked.database, policy=self._policy.restrictions)

    async def dial(self) -> Stream:
        return await adopt(await dial_tcp(self.database.spec.uri))

    async def secure(self, stream: Stream) -> Stream:
        context = ssl.create_default_context(cadata=certs.roots())
        mine = certs.pair(self._granted)
        load_chain(context, mine.cert, mine.key)
        await stream.handshake(context, server=False, server_hostname=certs.SERVER_NAME)
        return stream

    def know(self, **fields: int) -> None:
        pass

    async def relay(self, client: Stream, server: Stream, conversation: Conversation) -> None:
        relay = Relay(client, server, conversation, self._tell)
        self._policy.relays.append(relay)
        await relay.run()

    def _tell(self, facts: Sequence[Fact]) -> asyncio.Future[None]:
        self._policy.facts += facts
        return done()


@contextlib.contextmanager
def serving(engine: Engine, uri: str, *, tls: bool = False, **policy: object) -> Iterator[tuple[int, Policy]]:
    """The port where clients connect, and what is known of their sessions. `tls`: they begin with TLS and
    show a certificate, as behind the proxy."""
    kept = replace(Policy(database(engine.protocols[0], uri)), **policy)  # type: ignore[arg-type]
    context = certs.server(mutual=True) if tls else None

    async def session(client: Stream) -> None:
        if context is not None:
            await client.handshake(context, server=True)
        await engine.serve(client, FakeSession(kept, engine))

    with accepting(kept, session) as port:
        yield port, kept


@contextlib.contextmanager
def accepting(kept: Policy, session: Callable[[Stream], Awaitable[None]]) -> Iterator[int]:
    """A port at which each connection is a session, and what is known of their beginnings and ends."""
    port = free_port()
    ready, stop = threading.Event(), threading.Event()

    async def connection(client: Stream) -> None:
        kept.begun += 1
        try:
            await session(client)
        except AccessError as exc:
            kept.errors.append(exc)
        finally:
            await client.close()
            kept.ended += 1

    async def main() -> None:
        kept.loop = loop = asyncio.get_running_loop()
        tasks: set[asyncio.Task[None]] = set()
        with socket.create_server(("127.0.0.1", port)) as listener:
            listener.setblocking(False)
            stopped = asyncio.create_task(asyncio.to_thread(stop.wait))
            ready.set()
            while not stopped.done():
                accept = asyncio.create_task(loop.sock_accept(listener))
                await asyncio.wait((accept, stopped), return_when=asyncio.FIRST_COMPLETED)
                if accept.done():
                    task = asyncio.create_task(connection(await adopt(accept.result()[0])))
                    tasks.add(task)
                    task.add_done_callback(tasks.discard)
                else:
                    accept.cancel()
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    def run() -> None:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(main())

    thread = threading.Thread(target=run, name="database service")
    thread.start()
    try:
        assert ready.wait(10)
        yield port
    finally:
        stop.set()
        thread.join(20)
