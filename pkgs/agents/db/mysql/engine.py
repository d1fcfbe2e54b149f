"""The engine: orders the steps of a MySQL session."""

from __future__ import annotations

import contextlib
import os
from collections.abc import AsyncIterator, Iterator

from pkgs.agents.db.deadlines import logging_in, within
from pkgs.agents.db.engine import HEALTH_USER, Granted, Secure, Session
from pkgs.agents.db.mysql import kills, limits, login
from pkgs.agents.db.mysql.conversation import MysqlConversation
from pkgs.common.dbwire.mysql import answers, opening
from pkgs.common.dbwire.mysql.flags import OFFERED, Capability, Command
from pkgs.common.dbwire.mysql.handshake import Greeting, Response
from pkgs.common.dbwire.mysql.packets import frame
from pkgs.common.errors import AccessError, DeniedError, ProtocolError, UnavailableError
from pkgs.common.net.stream import Stream
from pkgs.common.resources.kinds import Database


class MysqlEngine:
    protocols: tuple[str, ...] = ("mysql",)
    restricts = False

    def __init__(self, *, local_files: bool = False) -> None:
        """`local_files`: LOAD DATA LOCAL is allowed, by which a server reads files of its client."""
        self._offered = OFFERED | (Capability.LOCAL_FILES if local_files else Capability(0))
        self._versions: dict[str, str] = {}
        """Of servers seen, by address: clients choose their SQL by the version in the greeting."""
        self._threads: dict[tuple[str, int], int] = {}
        """Of live sessions: a server's address and our number, to the server's number."""

    async def serve(self, client: Stream, session: Session) -> None:
        number = session.greeted_as
        sequence = 2 if number else 1
        try:
            async with within(limits.LOGIN_S, "the client did not log in"):
                if not number:
                    greeting = self._greeting(session.database)
                    number = greeting.thread
                    await login.greet(client, greeting)
                sequence, said = await login.hear(client)
            granted = await session.authorize(login.asked(said))
            async with self._logged_in(session, said, granted) as (server, agreed, welcome):
                client.write(frame(sequence + 1, welcome))
                await client.drain()
                thread = agreed.greeting.thread
                conversation = MysqlConversation(agreed.capabilities, self._killable(session))
                sane = True
                try:
                    with self._known(session, number, thread):
                        await session.relay(client, server, conversation)
                except ProtocolError:
                    sane = False
                    raise
                finally:
                    if sane and conversation.busy:
                        # The server would not notice before it has something to say.
                        await self._kill(session, said, granted, thread)
        except AccessError as exc:
            await _refuse(client, sequence + 1, exc)
            raise

    @contextlib.asynccontextmanager
    async def _logged_in(
        self, session: Session, said: Response, granted: Granted
    ) -> AsyncIterator[tuple[Stream, login.Agreed, bytes]]:
        """A connection to the server, closed at the end, and its OK."""
        server = await session.dial()
        try:
            async with logging_in(session.database, limits.SERVER_LOGIN_S):
                agreed = await login.ask_for_tls(server, said, granted, self._offered)
                server = await session.secure(server)
                welcome = await login.log_in(server, said, granted, agreed)
            self._remember(session.database, agreed.greeting.version)
            yield server, agreed, welcome
        finally:
            server.abort()

    @contextlib.contextmanager
    def _known(self, session: Session, number: int, thread: int) -> Iterator[None]:
        key = (session.database.spec.uri, number)
        if number not in opening.NUMBERS or key in self._threads:
            # A proxy has said it, and orders to kill it would be about another connection.
            yield
            return
        self._threads[key] = thread
        try:
            yield
        finally:
            del self._threads[key]

    def _killable(self, session: Session) -> kills.Threads:
        address = session.database.spec.uri
        return lambda number: self._threads.get((address, number))

    async def _kill(self, session: Session, said: Response, granted: Granted, thread: int) -> None:
        """End what the session left running, as the same user, as far as that succeeds."""
        with contextlib.suppress(AccessError):
            async with (
                within(limits.KILL_S, "the database server did not answer"),
                self._logged_in(session, said, granted) as (server, _, _),
            ):
                server.write(frame(0, kills.order(thread)))
                await server.drain()
                await login.read_packet(server)

    async def probe(self, server: Stream, database: Database, secure: Secure) -> None:
        """With a login that is refused: servers block a host that leaves them a hundred times before it
        (`max_connect_errors`), and a refusal does not count for that."""
        nobody, said = Granted(HEALTH_USER, ""), Response(OFFERED, HEALTH_USER, b"", "", "")
        async with logging_in(database, limits.SERVER_LOGIN_S):
            agreed = await login.ask_for_tls(server, said, nobody, self._offered)
            self._remember(database, agreed.greeting.version)
            server = await secure(server)
            try:
                await login.log_in(server, said, nobody, agreed)
            except login.ServerRefused as refused:
                if refused.kind[1] != answers.ACCESS_DENIED[1]:
                    raise
            except DeniedError:
                # It would take a password.
                pass
            else:
                server.write(frame(0, bytes((Command.QUIT,))))
                await server.close()

    def _greeting(self, database: Database) -> Greeting:
        configured = database.spec.mysql.server_version if database.spec.mysql else ""
        version = configured or self._versions.get(database.spec.uri, opening.DEFAULT_VERSION)
        return opening.own_greeting(os.urandom(opening.RANDOM_SIZE), version, self._offered)

    def _remember(self, database: Database, version: str) -> None:
        known = database.spec.uri in self._versions
        if not known and len(self._versions) >= limits.VERSIONS_MAX:
            return
        if version.isascii() and version.isprintable() and len(version) <= limits.VERSION_MAX:
            self._versions[database.spec.uri] = version


async def _refuse(client: Stream, sequence: int, exc: AccessError) -> None:
    """The error in the protocol's shape. Nothing when the session had begun: then it has been said."""
    if client.closed:
        return
    with contextlib.suppress(UnavailableError):
        client.write(frame(sequence, answers.error(_kind(exc), str(exc))))
        await client.drain()


def _kind(exc: AccessError) -> tuple[int, str]:
    if isinstance(exc, login.ServerRefused):
        return exc.kind
    return answers.ACCESS_DENIED if isinstance(exc, DeniedError) else answers.UNKNOWN_ERROR
