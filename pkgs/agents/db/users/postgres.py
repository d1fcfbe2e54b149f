"""PostgreSQL's users made on demand: what is asked of the server, and the statements that follow.

A comment on the user says on which terms it is active, so that agents that do not know of one another give
sessions of one user the same.
"""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass

import msgspec

from pkgs.agents.db.postgres.login import ServerError
from pkgs.agents.db.upstream.servers import Servers
from pkgs.agents.db.users import postgres_objects
from pkgs.agents.db.users.accounts import MARK, Finished, Given, OtherRolesError, Wanted
from pkgs.agents.db.users.postgres_sql import Admin, connected, identifier, text
from pkgs.common.errors import DeniedError, UnavailableError
from pkgs.common.resources.kinds import Database
from pkgs.common.resources.kinds.infrastructure import DbAdmin

_DEPENDENT_OBJECTS = "2BP01"
_NOT_LET_IN = ("28", "3D")
"""Classes of SQLSTATE: not by pg_hba.conf, no such database."""
_LOCK_KEY = "5216694956355245935"
"""Agents change users of a server one after the other; a number that nobody else is likely to lock. Such
locks are of one database: that in which the admin user logs in first."""

_LOCK = f"SELECT pg_advisory_xact_lock({_LOCK_KEY})"
_MARK_EXISTS = "SELECT 1 FROM pg_roles WHERE rolname = $1"
_STATE = """
SELECT EXISTS (SELECT FROM pg_stat_activity s WHERE s.usesysid = r.oid), shobj_description(r.oid, 'pg_authid')
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
    comment: str = ""


def comment_on(wanted: Wanted) -> str:
    """The terms of the sessions of now, as a comment on the user."""
    if wanted.objects is None:
        return ""
    digest = hashlib.sha256(msgspec.json.encode(wanted.objects.permissions.texts)).hexdigest()
    return f"object permissions {digest}"


def activation(user: str, state: State | None, wanted: Wanted) -> list[str]:
    """Statements after which the user is active with exactly the roles wanted. Raises DeniedError."""
    name, roles, comment = identifier(user), frozenset(wanted.roles), comment_on(wanted)
    if MARK in roles:
        raise DeniedError(f"the role {MARK} marks users, and is not granted by roles")
    commented = [f"COMMENT ON ROLE {name} IS '{comment}'"]
    if state is None:
        made = [f"CREATE ROLE {name} LOGIN IN ROLE {identifier(MARK)}"]
        made += [f"GRANT {identifier(role)} TO {name}" for role in sorted(roles)]
        return made + (commented if comment else [])
    if MARK not in state.roles:
        raise DeniedError(
            f"the database has a user of that name who is no member of {MARK}",
            hint="rename that user, or grant it the role to leave it to the agent",
        )
    has = state.roles - {MARK}
    if state.in_use and (has, state.comment) != (roles, comment):
        raise OtherRolesError
    return [
        *(f"REVOKE {identifier(role)} FROM {name}" for role in sorted(has - roles)),
        *(f"GRANT {identifier(role)} TO {name}" for role in sorted(roles - has)),
        *(commented if state.comment != comment else ()),
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

    def reach(inside: str) -> AbstractAsyncContextManager[Admin]:
        return connected(servers, database, admin.name, inside)

    home = admin.default_database or "postgres"
    async with reach(home) as connection:
        yield PostgresAccounts(reach, home, connection)


_Reach = Callable[[str], AbstractAsyncContextManager[Admin]]


class PostgresAccounts:
    """Over a connection of the admin user that holds the lock, and where there are objects in other databases
    one to each of these in turn."""

    def __init__(self, reach: _Reach, home: str, admin: Admin) -> None:
        """`reach`: log in to a database of the server; `home`: that of `admin`."""
        self._reach = reach
        self._home = home
        self._admin = admin

    async def activate(self, user: str, wanted: Wanted) -> Given:
        identifier(user)
        inside = wanted.objects.database if wanted.objects is not None else self._home
        async with self._locked():
            await self._forget_other_terms(user, wanted)
            if inside == self._home:
                return await self._activate(self._admin, user, wanted)
            async with self._reach(inside) as there, there.transaction():
                return await self._activate(there, user, wanted)

    async def _forget_other_terms(self, user: str, wanted: Wanted) -> None:
        """What an agent that has vanished gave the user, where that was something else."""
        state = await _state(self._admin, user)
        if state is None or state.in_use or MARK not in state.roles:
            return
        if (state.roles - {MARK}, state.comment) != (frozenset(wanted.roles), comment_on(wanted)):
            await self._take_everywhere(user)

    async def _activate(self, admin: Admin, user: str, wanted: Wanted) -> Given:
        """In the one transaction of that connection."""
        if not await admin.ask(_MARK_EXISTS, MARK):
            await admin.ask(f"CREATE ROLE {identifier(MARK)} NOLOGIN")
        for statement in activation(user, await _state(admin, user), wanted):
            await admin.ask(statement)
        after = await _state(admin, user)
        # A role that somebody else granted is not the admin's to revoke, which the server only warns of.
        if after is None or after.roles != {MARK, *wanted.roles}:
            raise UnavailableError(
                "the admin user cannot give the user exactly its roles",
                hint="it needs ADMIN OPTION on each role, and only it may grant them to that user",
            )
        if wanted.objects is None:
            return Given()
        return await postgres_objects.give(admin, user, wanted.objects)

    async def deactivate(self, user: str, *, drop: bool) -> Finished:
        async with self._locked():
            state = await _state(self._admin, user)
            if state is None or MARK not in state.roles:
                return Finished.ABSENT
            if state.in_use:
                return Finished.IN_USE
            for statement in deactivation(user, state):
                await self._admin.ask(statement)
            await self._take_everywhere(user)
            dropping = f"DROP ROLE {identifier(user)}"
            dropped = drop and await self._admin.attempt(dropping, but=_DEPENDENT_OBJECTS)
            return Finished.DROPPED if dropped else Finished.LOCKED

    async def _take_everywhere(self, user: str) -> None:
        await postgres_objects.take(self._admin, user)
        for inside in await postgres_objects.databases_with_grants(self._admin, user):
            await self._take_in(inside, user)

    async def _take_in(self, inside: str, user: str) -> None:
        try:
            async with self._reach(inside) as there, there.transaction():
                await postgres_objects.take(there, user)
        except ServerError as problem:
            # Where the admin user is not let in, what the user has is somebody else's gift.
            if problem.detail[:2] not in _NOT_LET_IN:
                raise

    @contextlib.asynccontextmanager
    async def _locked(self) -> AsyncIterator[None]:
        async with self._admin.transaction():
            await self._admin.ask(_LOCK)
            yield


async def _state(admin: Admin, user: str) -> State | None:
    found = await admin.ask(_STATE, user)
    if not found:
        return None
    roles = await admin.ask(_ROLES, user)
    in_use, comment = found[0]
    return State(in_use == b"t", frozenset(text(row[0]) for row in roles), text(comment))
