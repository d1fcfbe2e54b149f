"""One connection of PostgreSQL's admin user: names in statements, statements, transactions.

What is looked up goes as parameters of the extended protocol. Statements that make, change or grant take
none: names go into them as quoted identifiers, by `identifier` alone, or as the server itself quotes them
(attack A26).
"""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Sequence

from pkgs.agents.db.postgres.login import ServerError, ask_for_tls, log_in, messages
from pkgs.agents.db.upstream.servers import Servers
from pkgs.agents.db.users import limits
from pkgs.common.dbwire.postgres import backend, frontend, startup
from pkgs.common.dbwire.postgres.frontend import Bind, Parse, Values
from pkgs.common.dbwire.postgres.startup import Startup
from pkgs.common.errors import AccessError, InputError
from pkgs.common.net.stream import Stream
from pkgs.common.resources.kinds import Database

Row = list[bytes | None]
_NAME_MAX = 63
"""Bytes. The server cuts longer names, and might then mean somebody else."""


def identifier(name: str) -> str:
    """The name quoted, so that it is nothing but a name. Raises InputError where the server would take it for
    another one."""
    if not name or "\0" in name:
        raise InputError(f"{name!r} is no name in PostgreSQL")
    if len(name.encode("utf-8", "surrogatepass")) > _NAME_MAX:
        raise InputError(f"names in PostgreSQL have at most {_NAME_MAX} bytes", detail=name[:200])
    return '"' + name.replace('"', '""') + '"'


def text(value: bytes | None) -> str:
    return (value or b"").decode()


class Admin:
    """Logged in; nobody else uses it."""

    def __init__(self, server: Stream) -> None:
        self._server = server

    async def ask(self, statement: str, *parameters: str, most: int = limits.ANSWER_BYTES_MAX) -> list[Row]:
        """The rows of one statement, `most` bytes of them. Raises ServerError, LimitExceededError."""
        self._server.write(_encode(statement, parameters))
        await self._server.drain()
        rows: list[Row] = []
        refused: ServerError | None = None
        async for raw in messages(self._server, most):
            if raw[0] == backend.ERROR:
                refused = ServerError(raw)
            elif raw[0] == backend.DATA_ROW:
                rows.append(backend.parse_data_row(memoryview(raw)))
        if refused is not None:
            raise refused
        return rows

    @contextlib.asynccontextmanager
    async def transaction(self) -> AsyncIterator[None]:
        """An error takes everything back: by this statement, or by the connection's end."""
        await self.ask("BEGIN")
        try:
            yield
        except AccessError:
            await self.ask("ROLLBACK")
            raise
        await self.ask("COMMIT")

    async def attempt(self, statement: str, *, but: str) -> bool:
        """Inside a transaction. False: it was refused with that SQLSTATE, and nothing is changed."""
        await self.ask("SAVEPOINT before")
        try:
            await self.ask(statement)
        except ServerError as problem:
            if problem.detail != but:
                raise
            await self.ask("ROLLBACK TO SAVEPOINT before")
            return False
        await self.ask("RELEASE SAVEPOINT before")
        return True


@contextlib.asynccontextmanager
async def connected(servers: Servers, database: Database, name: str, inside: str) -> AsyncIterator[Admin]:
    """As the admin user of that name, to one database of the server. Raises UnavailableError, TrustError."""
    server = await servers.dial(database)
    try:
        await ask_for_tls(server)
        server = await servers.secure(server, database, name)
        await log_in(server, _packet(name, inside), read_only=False)
        yield Admin(server)
    finally:
        server.abort()


def _packet(name: str, inside: str) -> Startup:
    """Whatever the database sets for its users, our statements mean the same."""
    told = {
        "user": name,
        "database": inside,
        "application_name": "teleport-db",
        "client_encoding": "UTF8",
        "search_path": "pg_catalog",
        "statement_timeout": str(limits.STATEMENT_MS),
        "default_transaction_read_only": "off",
    }
    return Startup(
        startup.VERSION_3_0, tuple((name.encode(), value.encode()) for name, value in told.items())
    )


def _encode(statement: str, parameters: Sequence[str]) -> bytes:
    values = Values((), tuple(value.encode() for value in parameters))
    return b"".join(
        (
            Parse(b"", statement.encode()).encode(),
            Bind(b"", b"", values).encode(),
            frontend.execute(),
            frontend.sync(),
        )
    )
