"""The engine: orders the steps of a MySQL session."""

from __future__ import annotations

import contextlib

from pkgs.agents.db.deadlines import within
from pkgs.agents.db.engine import Session
from pkgs.agents.db.mysql import kills, limits, login
from pkgs.agents.db.mysql.conversation import MysqlConversation
from pkgs.common.dbwire.mysql import answers
from pkgs.common.dbwire.mysql.flags import Capability
from pkgs.common.dbwire.mysql.packets import frame
from pkgs.common.errors import AccessError, DeniedError, UnavailableError
from pkgs.common.net.stream import Stream
from pkgs.common.resources.kinds import Database

_DEFAULT_VERSION = "8.0.0-open-access"


class MysqlEngine:
    protocols: tuple[str, ...] = ("mysql",)

    def __init__(self, *, local_files: bool = False) -> None:
        """`local_files`: LOAD DATA LOCAL is allowed, by which a server reads files of its client."""
        self._offered = login.OFFERED | (Capability.LOCAL_FILES if local_files else Capability(0))
        self._versions: dict[str, str] = {}
        """Of servers seen, by address: clients choose their SQL by the version in the greeting."""
        self._threads: dict[tuple[str, int], int] = {}
        """Of live sessions: a server's address and our number, to the server's number."""

    async def serve(self, client: Stream, session: Session) -> None:
        sequence = 1
        server: Stream | None = None
        address, number = session.database.spec.uri, kills.new_number()
        try:
            async with within(limits.LOGIN_S, "the client did not log in"):
                sequence, said = await login.greet(
                    client, self._version(session.database), number, self._offered
                )
            granted = await session.authorize(login.asked(said))
            async with within(limits.SERVER_LOGIN_S, "the database server did not answer in its login"):
                server = await session.dial()
                agreed = await login.ask_for_tls(server, said, granted, self._offered)
                server = await session.secure(server)
                welcome = await login.log_in(server, said, granted, agreed)
            self._remember(session.database, agreed.greeting.version)
            client.write(frame(sequence + 1, welcome))
            await client.drain()
        except AccessError as exc:
            if server is not None:
                server.abort()
            with contextlib.suppress(UnavailableError):
                client.write(frame(sequence + 1, answers.error(_kind(exc), str(exc))))
                await client.drain()
            raise
        self._threads[address, number] = agreed.greeting.thread
        try:
            conversation = MysqlConversation(
                agreed.capabilities, lambda asked: self._threads.get((address, asked))
            )
            await session.relay(client, server, conversation)
        finally:
            del self._threads[address, number]

    async def probe(self, server: Stream, database: Database) -> None:
        async with within(limits.SERVER_LOGIN_S, "the database server did not greet"):
            greeting = await login.hear_greeting(server)
        self._remember(database, greeting.version)

    def _version(self, database: Database) -> str:
        configured = database.spec.mysql.server_version if database.spec.mysql else ""
        return configured or self._versions.get(database.spec.uri, _DEFAULT_VERSION)

    def _remember(self, database: Database, version: str) -> None:
        if len(self._versions) < limits.VERSIONS_MAX or database.spec.uri in self._versions:
            self._versions[database.spec.uri] = version


def _kind(exc: AccessError) -> tuple[int, str]:
    if isinstance(exc, login.ServerRefused):
        return exc.kind
    return answers.ACCESS_DENIED if isinstance(exc, DeniedError) else answers.UNKNOWN_ERROR
