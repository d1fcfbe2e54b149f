"""PostgreSQL's users made on demand: what is asked of the server, and the statements that follow.

What is looked up goes as parameters of the extended protocol. Statements that make or change a role take
none: names go into them as quoted identifiers, by `identifier` alone (attack A26).
"""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Iterable, Sequence
from dataclasses import dataclass

from pkgs.agents.db.postgres.login import ServerError, ask_for_tls, log_in, messages
from pkgs.agents.db.servers import Servers
from pkgs.agents.db.users import limits
from pkgs.agents.db.users.accounts import MARK, Finished, OtherRolesError
from pkgs.common.dbwire.postgres import backend, frontend, startup
from pkgs.common.dbwire.postgres.frontend import Bind, Parse, Values
from pkgs.common.dbwire.postgres.startup import Startup
from pkgs.common.errors import DeniedError, InputError, UnavailableError
from pkgs.common.net.stream import Stream
from pkgs.common.resources.kinds import Database
from pkgs.common.resources.kinds.infrastructure import DbAdmin

_NAME_MAX = 63
"""Bytes. The server cuts longer names, and might then mean somebody else."""
_DEPENDENT_OBJECTS = "2BP01"
_LOCK_KEY = "5216694956355245935"
"""Agents change users of a server one after the other; a number that nobody else is likely to lock."""

_LOCK = f"SELECT pg_advisory_xact_lock({_LOCK_KEY})"
_MARK_EXISTS = "SELECT 1 FROM pg_roles WHERE rolname = $1"
_STATE = """
SELECT EXISTS (SELECT FROM pg_stat_activity s WHERE s.usesysid = r.oid)
FROM pg_roles r WHERE r.rolname = $1
"""
_ROLES = """
SELECT g.rolname FROM pg_auth_members m
JOIN pg_roles g ON g.oid = m.roleid JOIN pg_roles r ON r.oid = m.member
WHERE r.rolname = $1
"""


@dataclass(frozen=True, slots=True)
class State:
    """A role of the server that exists."""

    in_use: bool
    """It has sessions, of whatever agent."""
    roles: frozenset[str]
    """Those it is a direct member of, the mark included."""


def identifier(name: str) -> str:
    """The name quoted, so that it is nothing but a name. Raises InputError where the server would take it for
    another one."""
    if not name or "\0" in name:
        raise InputError(f"{name!r} is no name in PostgreSQL")
    if len(name.encode("utf-8", "surrogatepass")) > _NAME_MAX:
        raise InputError(f"names in PostgreSQL have at most {_NAME_MAX} bytes", detail=name[:200])
    return '"' + name.replace('"', '""') + '"'


def activation(user: str, state: State | None, roles: Iterable[str]) -> list[str]:
    """Statements after which the user is active with exactly these roles. Raises DeniedError."""
    name, wanted = identifier(user), frozenset(roles)
    if MARK in wanted:
        raise DeniedError(f"the role {MARK} marks users, and is not granted by roles")
    if state is None:
        made = [f"CREATE ROLE {name} LOGIN IN ROLE {identifier(MARK)}"]
        return made + [f"GRANT {identifier(role)} TO {name}" for role in sorted(wanted)]
    if MARK not in state.roles:
        raise DeniedError(
            f"the database has a user of that name who is no member of {MARK}",
            hint="rename that user, or grant it the role to leave it to the agent",
        )
    has = state.roles - {MARK}
    if state.in_use and has != wanted:
        raise OtherRolesError(
            "the user has sessions with other database roles now",
            hint="end them, or connect with the same roles",
        )
    return [
        *(f"REVOKE {identifier(role)} FROM {name}" for role in sorted(has - wanted)),
        *(f"GRANT {identifier(role)} TO {name}" for role in sorted(wanted - has)),
        f"ALTER ROLE {name} LOGIN",
    ]


def deactivation(user: str, state: State) -> list[str]:
    """Statements after which nobody gets in as that user, and it has no role but the mark."""
    name = identifier(user)
    revoked = [f"REVOKE {identifier(role)} FROM {name}" for role in sorted(state.roles - {MARK})]
    return [f"ALTER ROLE {name} NOLOGIN", *revoked]


@contextlib.asynccontextmanager
async def administer(servers: Servers, database: Database, admin: DbAdmin) -> AsyncIterator[PostgresAccounts]:
    """See `accounts.Administer`."""
    server = await servers.dial(database)
    try:
        await ask_for_tls(server)
        server = await servers.secure(server, database, admin.name)
        await log_in(server, _packet(admin), read_only=False)
        yield PostgresAccounts(server)
    finally:
        server.abort()


def _packet(admin: DbAdmin) -> Startup:
    """Whatever the database sets for its users, our statements mean the same."""
    told = {
        "user": admin.name,
        "database": admin.default_database or "postgres",
        "application_name": "teleport-db",
        "client_encoding": "UTF8",
        "search_path": "pg_catalog",
        "statement_timeout": str(limits.STATEMENT_MS),
        "default_transaction_read_only": "off",
    }
    return Startup(
        startup.VERSION_3_0, tuple((name.encode(), value.encode()) for name, value in told.items())
    )


class PostgresAccounts:
    """Over one connection of the admin user."""

    def __init__(self, server: Stream) -> None:
        self._server = server

    async def activate(self, user: str, roles: tuple[str, ...]) -> None:
        identifier(user)
        async with self._transaction():
            if not await self._ask(_MARK_EXISTS, MARK):
                await self._ask(f"CREATE ROLE {identifier(MARK)} NOLOGIN")
            for statement in activation(user, await self._state(user), roles):
                await self._ask(statement)
            after = await self._state(user)
            # A role that somebody else granted is not the admin's to revoke, which the server only warns of.
            if after is None or after.roles != {MARK, *roles}:
                raise UnavailableError(
                    "the admin user cannot give the user exactly its roles",
                    hint="it needs ADMIN OPTION on each role, and only it may grant them to that user",
                )

    async def deactivate(self, user: str, *, drop: bool) -> Finished:
        async with self._transaction():
            state = await self._state(user)
            if state is None or MARK not in state.roles:
                return Finished.ABSENT
            if state.in_use:
                return Finished.IN_USE
            for statement in deactivation(user, state):
                await self._ask(statement)
            return Finished.DROPPED if drop and await self._drop(user) else Finished.LOCKED

    async def _drop(self, user: str) -> bool:
        """False when something depends on it."""
        await self._ask("SAVEPOINT before")
        try:
            await self._ask(f"DROP ROLE {identifier(user)}")
        except ServerError as problem:
            if problem.detail != _DEPENDENT_OBJECTS:
                raise
            await self._ask("ROLLBACK TO SAVEPOINT before")
            return False
        return True

    async def _state(self, user: str) -> State | None:
        found = await self._ask(_STATE, user)
        if not found:
            return None
        roles = await self._ask(_ROLES, user)
        return State(found[0][0] == b"t", frozenset((row[0] or b"").decode() for row in roles))

    @contextlib.asynccontextmanager
    async def _transaction(self) -> AsyncIterator[None]:
        """An error takes everything back: by this statement, or by the connection's end."""
        await self._ask("BEGIN")
        try:
            await self._ask(_LOCK)
            yield
        except (DeniedError, ServerError):
            await self._ask("ROLLBACK")
            raise
        await self._ask("COMMIT")

    async def _ask(self, text: str, *parameters: str) -> list[list[bytes | None]]:
        """The rows of one statement. Raises ServerError."""
        self._server.write(_encode(text, parameters))
        await self._server.drain()
        rows: list[list[bytes | None]] = []
        refused: ServerError | None = None
        async for raw in messages(self._server, limits.ANSWER_BYTES_MAX):
            if raw[0] == backend.ERROR:
                refused = ServerError(raw)
            elif raw[0] == backend.DATA_ROW:
                rows.append(backend.parse_data_row(memoryview(raw)))
        if refused is not None:
            raise refused
        return rows


def _encode(text: str, parameters: Sequence[str]) -> bytes:
    values = Values((), tuple(value.encode() for value in parameters))
    return b"".join(
        (
            Parse(b"", text.encode()).encode(),
            Bind(b"", b"", values).encode(),
            frontend.execute(),
            frontend.sync(),
        )
    )
