"""Who has sessions as which user that we made, and what follows from it.

    nobody --claim--> active --claim, release--> active --last release--> deactivated, with patience

Sessions are counted here, and the server is asked as well, for other agents may serve the same database: a
user that has sessions there is left alone, and looked at again until it has none. Whatever happens to this
process, the journal names the users to look at, and where they are: also when the database is served no more.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import TypeVar

from pkgs.agents.db.deadlines import within
from pkgs.agents.db.upstream.servers import Servers
from pkgs.agents.db.users import limits
from pkgs.agents.db.users.accounts import (
    Accounts,
    Administer,
    Finished,
    Given,
    OtherRolesError,
    Wanted,
)
from pkgs.agents.db.users.journal import Entry, Journal
from pkgs.common.errors import AccessError, DeniedError, InputError, UnavailableError
from pkgs.common.events.codes import DB_SESSION_USER_DEACTIVATE, DB_SESSION_USER_DEACTIVATE_FAIL, Kind
from pkgs.common.events.types import FieldValue
from pkgs.common.resources.kinds import Database

Emit = Callable[[Kind, Mapping[str, FieldValue]], Awaitable[None]]
Result = TypeVar("Result")


@dataclass(slots=True)
class _Active:
    """One user of one database; what is done to it is done one after the other."""

    entry: Entry | None = None
    made: bool = False
    """It has been active, as far as is known."""
    terms: object = None
    """Of its sessions, all the same: see `Wanted.terms`."""
    sessions: set[object] = field(default_factory=set)
    unserved_since: float | None = None
    forsaken: bool = False
    """The database has not been served for long."""
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)


class DatabaseUsers:
    """`start` it before the first claim."""

    def __init__(
        self,
        journal: Journal,
        servers: Servers,
        administer: Mapping[str, Administer],
        current: Callable[[str], Database | None],
        emit: Emit,
        log: logging.Logger,
    ) -> None:
        """`administer`: by `spec.protocol`."""
        self._journal = journal
        self._servers = servers
        self._administer = administer
        self._current = current
        self._emit = emit
        self._log = log
        self._on_unserved: Callable[[], None] = lambda: None
        self._active: dict[tuple[str, str], _Active] = {}
        self._finishing: set[asyncio.Task[None]] = set()

    def start(self, on_unserved: Callable[[], None] = lambda: None) -> None:
        """Begin to deactivate what an earlier process left. `on_unserved`: `unserved` is another one now."""
        self._on_unserved = on_unserved
        for entry in self._journal.open():
            key = (entry.database, entry.user)
            self._active[key] = _Active(entry, made=True)
            self._finish_later(key)

    @property
    def unserved(self) -> Mapping[str, Database]:
        """Databases that are served no more, and have users of ours to be ended: by name."""
        entries = [one.entry for one in self._active.values() if one.entry is not None and not one.forsaken]
        return {
            entry.database: entry.served
            for entry in entries
            if entry.served is not None and self._current(entry.database) is None
        }

    async def close(self) -> None:
        """After the last session. What does not end in time is left to the next start."""
        if self._finishing:
            await asyncio.wait(set(self._finishing), timeout=limits.CLOSE_S)
        for task in self._finishing:
            task.cancel()
        await asyncio.gather(*self._finishing, return_exceptions=True)

    async def claim(self, session: object, database: Database, entry: Entry, wanted: Wanted) -> Given:
        """The entry's user is active with exactly what is wanted when this returns. To be released in any
        case. Raises DeniedError while it is in use with other roles or permissions, or is none of ours;
        UnavailableError, LimitExceededError."""
        if len(wanted.roles) > limits.ROLES_MAX:
            raise DeniedError(f"a database user may have {limits.ROLES_MAX} roles")
        key = (entry.database, entry.user)
        while True:
            active = self._active.setdefault(key, _Active())
            async with active.lock:
                if self._active.get(key) is not active:
                    continue  # it ended while we waited
                if active.sessions and active.terms != wanted.terms:
                    raise OtherRolesError
                self._journal.keep(entry)
                untouched = active.entry is None
                active.entry, active.terms = entry, wanted.terms
                active.sessions.add(session)
                try:
                    given = await self._activate(database, entry.user, wanted)
                except (DeniedError, InputError):
                    if untouched:  # and so it is still: there is nothing to clean up
                        self._forget(key, entry)
                    raise
                active.made = True
                return given

    def release(self, session: object, database: str, user: str) -> None:
        """That session is over, and its connection to the server closed."""
        active = self._active.get((database, user))
        if active is not None and session in active.sessions:
            active.sessions.discard(session)
            if not active.sessions:
                self._finish_later((database, user))

    async def _activate(self, database: Database, user: str, wanted: Wanted) -> Given:
        loop = asyncio.get_running_loop()
        until = loop.time() + limits.OTHERS_LEAVE_S

        async def work(accounts: Accounts) -> Given:
            while True:
                try:
                    return await accounts.activate(user, wanted)
                except OtherRolesError:
                    # Servers notice the end of a session a moment after it.
                    if loop.time() >= until:
                        raise
                await asyncio.sleep(limits.OTHERS_LOOK_S)

        return await self._as_admin(database, user, work)

    async def _as_admin(
        self, database: Database, user: str, work: Callable[[Accounts], Awaitable[Result]]
    ) -> Result:
        admin, administer = database.spec.admin_user, self._administer.get(database.spec.protocol)
        if administer is None:
            raise InputError(f"users of {database.spec.protocol} databases cannot be made on demand")
        if admin is None or not admin.name:
            raise InputError(
                "this database has no admin user", hint="name one in the database's admin_user.name"
            )
        if user == admin.name:
            raise DeniedError("that is the admin user, who is none of those made on demand")
        async with (
            within(limits.ADMIN_S, "the database's admin user was not done"),
            administer(self._servers, database, admin) as accounts,
        ):
            return await work(accounts)

    # The end of a user's last session.

    def _finish_later(self, key: tuple[str, str]) -> None:
        task = asyncio.create_task(self._finish(key, self._active[key]))
        self._finishing.add(task)
        task.add_done_callback(self._finishing.discard)

    async def _finish(self, key: tuple[str, str], active: _Active) -> None:
        """Until it is done, or somebody has a session as that user again."""
        delay_s, told = limits.FINISH_FIRST_S, False
        while True:
            async with active.lock:
                if active.sessions or active.entry is None or self._active.get(key) is not active:
                    return
                try:
                    finished = await self._deactivate(active, active.entry)
                except AccessError as problem:
                    if active.made and not told:
                        told = True
                        await self._tell_failure(active.entry, problem)
                else:
                    if finished is not Finished.IN_USE and await self._tell(active.entry, finished):
                        self._forget(key, active.entry)
                        return
            await asyncio.sleep(delay_s)
            delay_s = min(2 * delay_s, limits.FINISH_LAST_S)

    def _forget(self, key: tuple[str, str], entry: Entry) -> None:
        self._journal.forget(entry)
        del self._active[key]
        self._on_unserved()

    async def _deactivate(self, active: _Active, entry: Entry) -> Finished:
        database = self._current(entry.database)
        if database is None:
            database = self._as_it_was(active, entry)
        else:
            active.unserved_since, active.forsaken = None, False
        return await self._as_admin(
            database, entry.user, lambda accounts: accounts.deactivate(entry.user, drop=entry.drop)
        )

    def _as_it_was(self, active: _Active, entry: Entry) -> Database:
        """For a while, so that a database which is gone for good is not tried for ever."""
        now = asyncio.get_running_loop().time()
        if active.unserved_since is None:
            active.unserved_since = now
        if not active.forsaken and now - active.unserved_since > limits.UNSERVED_S:
            active.forsaken = True
            self._on_unserved()
        if entry.served is None or active.forsaken:
            raise UnavailableError("the database is not served here any more")
        return entry.served

    async def _tell(self, entry: Entry, finished: Finished) -> bool:
        """Whether the audit has it."""
        if finished is Finished.ABSENT:
            return True
        dropped = finished is Finished.DROPPED
        about: dict[str, FieldValue] = {"username": entry.user, "delete": dropped, "success": True}
        try:
            await self._emit(DB_SESSION_USER_DEACTIVATE, {**entry.fields, **about})
        except AccessError as problem:
            self._log.error("the end of a database user is not audited yet: %s", problem)
            return False
        return True

    async def _tell_failure(self, entry: Entry, problem: AccessError) -> None:
        self._log.error(
            "a database user is not deactivated yet: %s",
            problem,
            extra={"db_user": entry.user, "database": entry.database, "detail": problem.detail},
        )
        about: dict[str, FieldValue] = {
            "username": entry.user,
            "delete": entry.drop,
            "success": False,
            "error": problem.message,
        }
        try:
            await self._emit(DB_SESSION_USER_DEACTIVATE_FAIL, {**entry.fields, **about})
        except AccessError as lost:
            self._log.error("that a database user stays active is not audited: %s", lost)
