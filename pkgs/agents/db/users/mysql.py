"""MariaDB's users made on demand: what is asked of the server, and the statements that follow.

A user of MariaDB has one role by default, so each gets a role of its own that has what was decided on. Names
go into statements as quoted identifiers or as hexadecimal, by the functions of this file alone (attack A26).
Statements about users end transactions, so each is safe to be the last one: a user is let in by the last of
its making, and locked by the first of its end.
"""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import AsyncIterator, Iterable
from dataclasses import dataclass

from pkgs.agents.db.engine import Granted
from pkgs.agents.db.mysql import login
from pkgs.agents.db.upstream.servers import Servers
from pkgs.agents.db.users import limits
from pkgs.agents.db.users.accounts import MARK, Finished, Given, OtherRolesError, Wanted
from pkgs.common.dbwire.mysql import answers
from pkgs.common.dbwire.mysql.flags import OFFERED, Capability, Command
from pkgs.common.dbwire.mysql.handshake import Response
from pkgs.common.dbwire.mysql.packets import frame
from pkgs.common.dbwire.mysql.values import Reader
from pkgs.common.errors import DeniedError, InputError, LimitExceededError, UnavailableError
from pkgs.common.net.stream import Stream
from pkgs.common.resources.kinds import Database
from pkgs.common.resources.kinds.infrastructure import DbAdmin

_NAME_MAX = 80
"""Characters."""
_CAPABILITIES = OFFERED & ~(
    Capability.DEPRECATE_EOF
    | Capability.SESSION_TRACK
    | Capability.MULTI_STATEMENTS
    | Capability.CONNECT_WITH_DB
    | Capability.CONNECT_ATTRS
    | Capability.NO_SCHEMA
)
_SETTINGS = "SET SESSION sql_mode = 'STRICT_ALL_TABLES', lock_wait_timeout = 20"
"""Quotes and backslashes mean what is written here, whatever the server's own mode is."""
_LOCK = f"SELECT GET_LOCK('{MARK}', 20)"
"""Agents change users of a server one after the other. It ends with the connection."""

_IS_ROLE = "SELECT 1 FROM mysql.user WHERE is_role = 'Y' AND User = {}"
_HOSTS = "SELECT Host FROM mysql.user WHERE User = {}"
_DIRECT = "SELECT Role FROM mysql.roles_mapping WHERE User = {} AND Host = '%'"
_ROLES = "SELECT Role FROM mysql.roles_mapping WHERE User = {} AND Host = ''"
_SESSIONS = "SELECT 1 FROM information_schema.PROCESSLIST WHERE USER = {} LIMIT 1"


@dataclass(frozen=True, slots=True)
class State:
    """A user of the server that exists."""

    direct: frozenset[str]
    """Roles of its account: the mark, its own, and what else somebody granted it. None when the name has
    another account than that of every host."""
    in_use: bool
    """It has sessions, of whatever agent."""
    roles: frozenset[str]
    """Those that its own role has."""

    @property
    def marked(self) -> bool:
        return MARK in self.direct


def identifier(name: str) -> str:
    """The name quoted, so that it is nothing but a name. Raises InputError where the server would take it for
    another one."""
    if not name or name != name.strip() or any(not " " <= char <= "\uffff" for char in name):
        raise InputError(f"{name!r} is no name in MariaDB")
    if len(name) > _NAME_MAX:
        raise InputError(f"names in MariaDB have at most {_NAME_MAX} characters", detail=name[:200])
    return "`" + name.replace("`", "``") + "`"


def own_role(user: str) -> str:
    """The name of the role of one user alone."""
    return f"{MARK}-{hashlib.sha256(user.encode()).hexdigest()[:32]}"


def subject(user: str) -> str:
    """A literal of the subject that the user's certificate has, as the server writes it."""
    shown = "".join(chr(byte) if 32 <= byte < 127 else f"\\x{byte:02X}" for byte in user.encode())
    return "'/CN=" + shown.replace("\\", "\\\\").replace("'", "''") + "'"


def activation(user: str, state: State | None, roles: Iterable[str]) -> list[str]:
    """Statements after which the user is active with exactly these roles. Raises DeniedError."""
    account, own, wanted = f"{identifier(user)}@`%`", identifier(own_role(user)), frozenset(roles)
    if MARK in wanted:
        raise DeniedError(f"the role {MARK} marks users, and is not granted by roles")
    has: frozenset[str] = frozenset()
    made: list[str] = []
    if state is None:
        made += [f"CREATE USER {account} REQUIRE SUBJECT {subject(user)} ACCOUNT LOCK"]
        made += [f"GRANT {identifier(MARK)} TO {account}"]
    else:
        has = state.roles
        made += _stripped(user, state)
        if not state.marked:
            raise DeniedError(
                f"the database has a user of that name who has not the role {MARK}",
                hint="rename that user, or grant it the role to leave it to the agent",
            )
        if state.in_use and has != wanted:
            raise OtherRolesError
    return [
        *made,
        f"CREATE ROLE IF NOT EXISTS {own}",
        *(f"REVOKE {identifier(role)} FROM {own}" for role in sorted(has - wanted)),
        *(f"GRANT {identifier(role)} TO {own}" for role in sorted(wanted - has)),
        f"GRANT {own} TO {account}",
        f"SET DEFAULT ROLE {own} FOR {account}",
        f"ALTER USER {account} REQUIRE SUBJECT {subject(user)} ACCOUNT UNLOCK",
    ]


def _stripped(user: str, state: State) -> list[str]:
    others = state.direct - {MARK, own_role(user)}
    return [f"REVOKE {identifier(role)} FROM {identifier(user)}@`%`" for role in sorted(others)]


def deactivation(user: str, state: State, *, drop: bool) -> list[str]:
    """Statements after which nobody gets in as that user, and it has no role but the mark."""
    account = f"{identifier(user)}@`%`"
    locked = [
        f"ALTER USER {account} ACCOUNT LOCK",
        f"DROP ROLE IF EXISTS {identifier(own_role(user))}",
        *_stripped(user, state),
    ]
    return [*locked, f"DROP USER {account}"] if drop else locked


@contextlib.asynccontextmanager
async def administer(servers: Servers, database: Database, admin: DbAdmin) -> AsyncIterator[MariadbAccounts]:
    """See `accounts.Administer`."""
    said = Response(_CAPABILITIES, admin.name)
    granted = Granted(admin.name, admin.default_database)
    server = await servers.dial(database)
    try:
        agreed = await login.ask_for_tls(server, said, granted, _CAPABILITIES)
        if "MariaDB" not in agreed.greeting.version:
            raise InputError("users are made on demand in MariaDB, and not yet in MySQL")
        server = await servers.secure(server, database, admin.name)
        await login.log_in(server, said, granted, agreed)
        accounts = MariadbAccounts(server)
        await accounts.ask(_SETTINGS)
        yield accounts
    finally:
        server.abort()


class MariadbAccounts:
    """Over one connection of the admin user."""

    def __init__(self, server: Stream) -> None:
        self._server = server

    async def activate(self, user: str, wanted: Wanted) -> Given:
        identifier(user)
        roles = wanted.roles
        if wanted.objects is not None:
            raise DeniedError("permissions on objects are granted in PostgreSQL only")
        await self._locked()
        await self.ask(f"CREATE ROLE IF NOT EXISTS {identifier(MARK)}")
        statements = activation(user, await self._state(user), roles)
        for role in roles:
            if not await self.ask(_IS_ROLE, role):
                raise DeniedError(f'the database has no role "{role}"')
        for statement in statements:
            await self.ask(statement)
        after = await self._state(user)
        if after is None or after.direct != {MARK, own_role(user)} or after.roles != frozenset(roles):
            raise UnavailableError("the user has not exactly its roles: did somebody else change them?")
        return Given()

    async def deactivate(self, user: str, *, drop: bool) -> Finished:
        identifier(user)
        await self._locked()
        state = await self._state(user)
        if state is None or not state.marked:
            return Finished.ABSENT
        if state.in_use:
            return Finished.IN_USE
        for statement in deactivation(user, state, drop=drop):
            await self.ask(statement)
        return Finished.DROPPED if drop else Finished.LOCKED

    async def _locked(self) -> None:
        if await self.ask(_LOCK) != ["1"]:
            raise UnavailableError("another agent changes users of the database", hint="try again later")

    async def _state(self, user: str) -> State | None:
        """Every account of that name counts: one of another host would be somebody else's."""
        hosts = await self.ask(_HOSTS, user)
        if not hosts:
            return None
        direct = await self.ask(_DIRECT, user) if hosts == ["%"] else []
        used = await self.ask(_SESSIONS, user)
        roles = await self.ask(_ROLES, own_role(user))
        return State(frozenset(direct), bool(used), frozenset(roles))

    async def ask(self, text: str, *names: str) -> list[str]:
        """The first column of the rows of one statement; names stand where it has `{}`. Raises
        ServerRefused."""
        text = text.format(*map(_hex, names)) if names else text
        self._server.write(frame(0, bytes((Command.QUERY,)) + text.encode()))
        await self._server.drain()
        left = limits.ANSWER_BYTES_MAX
        rows: list[str] = []
        ends = 0
        first = True
        while True:
            _, payload = await login.read_packet(self._server)
            left -= len(payload)
            if left < 0:
                raise LimitExceededError("the database server says too much about its users")
            if payload[:1] == bytes((answers.ERR,)):
                raise login.ServerRefused(answers.parse_error(payload))
            if first and payload[:1] == bytes((answers.OK,)):
                return rows
            first = False
            if payload[:1] == bytes((answers.EOF,)) and len(payload) < 9:
                ends += 1
                if ends == 2:
                    return rows
            elif ends == 1:
                reader = Reader(payload, 0)
                rows.append(reader.take(reader.lenenc()).decode("utf-8", "replace"))


def _hex(name: str) -> str:
    """A literal that is compared byte by byte."""
    return f"X'{name.encode().hex()}'"
