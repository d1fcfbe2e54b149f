"""One user's connection to one database: everything an engine asks of the service, in its order.

authorize (decided, audited; the user made, where roles say so) -> dial -> secure -> relay (reviewed) -> end
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, replace

from pkgs.agents.base.leases import Leases, TooManyConnectionsError
from pkgs.agents.db import limits
from pkgs.agents.db.engine import Asked, Conversation, Engine, Granted
from pkgs.agents.db.gate import NO_LONGER, Gate
from pkgs.agents.db.record.session import Keeping, SessionRecord
from pkgs.agents.db.relay import Ended, Relay
from pkgs.agents.db.unrestricted import check_restricts
from pkgs.agents.db.upstream.servers import Servers
from pkgs.agents.db.users.accounts import Objects, Wanted
from pkgs.agents.db.users.journal import Entry
from pkgs.agents.db.users.keeper import DatabaseUsers
from pkgs.common.access.dbobjects import ObjectPermissions
from pkgs.common.access.types import ConnectDatabase, Decision
from pkgs.common.api.semaphores import AcquireDatabaseLease
from pkgs.common.errors import AccessError, DeniedError, ProtocolError, UnavailableError
from pkgs.common.membership.reviews import Reviews
from pkgs.common.net.sockets import split_host_port
from pkgs.common.net.stream import Stream
from pkgs.common.output.sanitize import inert
from pkgs.common.pki.identity import Identity
from pkgs.common.resources.kinds import Database

OTHER_TERMS = "your roles say something else about what this session may do: connect again"


@dataclass(frozen=True, slots=True)
class Shared:
    """What all connections of the service have in common."""

    gate: Gate
    keeping: Keeping
    servers: Servers
    users: DatabaseUsers
    reviews: Reviews
    leases: Leases
    current: Callable[[str], Database | None]
    """A database as it is now: its labels change."""


class DbSession:
    """Made when TLS has proven who is there; `serve` runs it to its end. Both a `Session` for the engine and
    something `Reviews` asks about."""

    def __init__(
        self,
        shared: Shared,
        identity: Identity,
        der: bytes,
        database: Database,
        client_addr: str,
        refusal: DeniedError | None = None,
        greeted_as: int = 0,
    ) -> None:
        """With a `refusal` it begins only to say so in the protocol's shape: that one authorizes nothing."""
        self._shared = shared
        self._identity = identity
        self._der = der
        self._database = database
        self._client_addr = client_addr
        self._source = split_host_port(client_addr)[0]
        self._refusal = refusal
        self._greeted_as = greeted_as
        self._record = SessionRecord(shared.keeping, identity, database, client_addr)
        self._target: ConnectDatabase | None = None
        self._granted: Granted | None = None
        self._made = False
        """The database user was made for this, on the terms that the decision set."""
        self._terms: tuple[object, ...] = ()
        self._engine: Engine | None = None
        self._lease = ""
        """Its place among those that the user's roles allow."""
        self._relay: Relay | None = None
        self._dialled: list[Stream] = []
        """Whatever an engine forgets of them ends with the session."""
        self._relayed = False
        """Its bytes have ceased to flow: an engine may dial once more, to end what runs on at the server."""
        self._clearing = False
        self._cleared_by: Stream | None = None
        self._deadline: asyncio.Timeout | None = None
        self._idle_timeout_s = 0.0
        self._why = ""
        """For the audit: why it ended; and what the user reads of it."""
        self._text = ""
        self._ended = Ended(0, 0)

    async def serve(self, engine: Engine, client: Stream) -> None:
        """To the end; both the engine's streams are closed then. Raises nothing for what a peer does."""
        log = self._shared.keeping.log
        self._engine = engine
        try:
            async with asyncio.timeout(limits.LOGIN_S) as self._deadline:
                await engine.serve(client, self)
        except TimeoutError:
            self._note("" if self._relayed else "the login took too long")
        except AccessError as problem:
            self._note(problem.message)
            log.info(
                "a database session ended with an error: %s",
                problem.message,
                extra={
                    "user": self._identity.name,
                    "database": self._database.name,
                    "detail": problem.detail,
                },
            )
        except Exception:
            # A fault of ours, perhaps over what a peer sent, ends this session and no other.
            self._note("internal error")
            log.exception("a database session failed", extra={"database": self._database.name})
        finally:
            self._shared.reviews.discard(self)
            for stream in (client, *self._dialled):
                stream.abort()
            self._shared.users.release(self, self._database.name, self._identity.name)
            self._shared.leases.release(self._lease)
            try:
                await self._record.end(self._ended.sent, self._ended.received, self._why)
            except AccessError as problem:
                log.error("the end of a session is not audited: %s", problem)

    # What an engine asks.

    @property
    def database(self) -> Database:
        return self._database

    @property
    def user(self) -> str:
        return self._identity.name

    @property
    def greeted_as(self) -> int:
        return self._greeted_as

    async def authorize(self, asked: Asked) -> Granted:
        asked = Asked(asked.user, asked.database, asked.agent[: limits.AGENT_NAME_KEPT])
        if self._target is not None:
            raise ProtocolError("a session is authorized once")
        target, refusal = self._asked_for(asked), self._refusal
        if refusal is not None:
            await self._record.refused(asked, "; ".join(refusal.reasons) or refusal.message, refusal.message)
            raise refusal
        gate = self._shared.gate
        decision = gate.decide(self._identity, target, self._source)
        if not decision:
            text = decision.text or gate.denied(self._identity, target, self._source, decision.needs)
            await self._record.refused(asked, "; ".join(decision.reasons), text)
            raise DeniedError(text, reasons=decision.reasons)
        mode = decision.principals.get("create_db_user_mode", ("off",))[0]
        user = target.user if mode == "off" else self._identity.name
        roles = decision.principals.get("db_roles", ())
        granted = Granted(user, target.name, roles, decision.restrictions)
        await self._check_restricts(asked, granted)
        options = gate.options(self._identity, self._source)
        self._idle_timeout_s = options.client_idle_timeout_s
        if options.max_db_connections:
            await self._take_place(asked, options.max_db_connections)
        await self._record.begin(asked, granted, strict=options.record_strict_default, give_up=self.end)
        self._target = ConnectDatabase(target.db, user, target.name, target.roles)
        self._granted = granted
        self._shared.reviews.add(self)
        if mode != "off":
            self._made, self._terms = True, _terms_of(decision)
            await self._make_user(granted, decision.objects, drop=mode == "best_effort_drop")
        return granted

    async def _check_restricts(self, asked: Asked, granted: Granted) -> None:
        assert self._engine is not None
        try:
            check_restricts(self._engine, granted.policy, self._database.spec.protocol)
        except DeniedError as problem:
            await self._record.refused(asked, "; ".join(problem.reasons), problem.message)
            raise

    async def _take_place(self, asked: Asked, most: int) -> None:
        def asking(lease_id: str) -> AcquireDatabaseLease:
            return AcquireDatabaseLease(lease_id=lease_id, certificate=self._der, client_addr=self._source)

        try:
            self._lease = await self._shared.leases.acquire(self._identity.name, most, asking, self.end)
        except TooManyConnectionsError as problem:
            await self._record.refused(asked, problem.message, problem.message)
            raise DeniedError(problem.message, reasons=(problem.message,)) from problem

    async def _make_user(self, granted: Granted, objects: ObjectPermissions | None, *, drop: bool) -> None:
        user, inside = granted.user, granted.database
        served, fields = self._database, self._record.parties
        entry = Entry(database=served.name, user=user, drop=drop, served=served, fields=fields)
        try:
            wanted = Wanted(granted.roles)
            if objects is not None:
                rules = self._shared.gate.import_rules(self._database, inside)
                wanted = Wanted(objects=Objects(inside, objects, rules))
            given = await self._shared.users.claim(self, self._database, entry, wanted)
        except AccessError as problem:
            text = (
                "your Teleport role requires automatic database user provisioning but an attempt to activate "
                f'database user "{inert(user)}" failed due to the following error: {problem.message}'
            )
            await self._record.user_made(user, granted.roles, error=problem.message)
            kind = DeniedError if isinstance(problem, DeniedError) else UnavailableError
            raise kind(text, detail=problem.detail, hint=problem.hint) from problem
        await self._record.user_made(user, granted.roles)
        if objects is not None:
            await self._record.permissions_given(given)

    def _asked_for(self, asked: Asked) -> ConnectDatabase:
        """The names of the protocol's login; where it has none, those of the certificate. Compared by the
        decision as they are, letter by letter (attack A26)."""
        route = self._identity.route_to_database
        assert route is not None
        return ConnectDatabase(
            self._database, asked.user or route.user, asked.database or route.database, route.roles
        )

    async def dial(self) -> Stream:
        clearing = self._relayed and not self._clearing
        if clearing:
            self._clearing = True
        else:
            self._check()
        stream = await self._shared.servers.dial(self._database)
        self._dialled = [one for one in self._dialled if not one.closed] + [stream]
        if clearing:
            self._cleared_by = stream
        return stream

    async def secure(self, stream: Stream) -> Stream:
        if stream is not self._cleared_by:
            self._check()
        assert self._granted is not None
        return await self._shared.servers.secure(stream, self._database, self._granted.user)

    def know(self, **fields: int) -> None:
        self._record.know(fields)

    async def relay(self, client: Stream, server: Stream, conversation: Conversation) -> None:
        try:
            self._check()
        except DeniedError:
            server.abort()
            raise
        if self._deadline is not None:
            self._deadline.reschedule(None)
        self._relay = Relay(client, server, conversation, self._record.tell)
        try:
            self._ended = await self._relay.run()
            self._note(self._ended.broken)
        finally:
            self._relayed = True
            if self._deadline is not None:
                self._deadline.reschedule(asyncio.get_running_loop().time() + limits.CLEAR_AWAY_S)

    # While it lasts.

    def review(self, *, authorities: bool) -> None:
        """End it, if it would not be allowed now (attack A14)."""
        if self._why or self._target is None:
            return
        database = self._shared.current(self._database.name)
        if database is None:
            self._cut("the database is not served here any more", NO_LONGER)
            return
        target = replace(self._target, db=database)
        decision = self._shared.gate.stays(
            self._identity, self._der, target, self._source, authorities=authorities
        )
        if not decision:
            self._cut("; ".join(decision.reasons), decision.text or NO_LONGER)
            return
        if self._made and _terms_of(decision) != self._terms:
            self._cut("the database roles or permissions of the user are others now", NO_LONGER)
            return
        if self._granted is not None and decision.restrictions != self._granted.policy:
            self._cut("what the session may do is something else now", OTHER_TERMS)
            return
        if self._relay is not None and self._idle_timeout_s:
            idle_s = asyncio.get_running_loop().time() - self._relay.heard_at
            if idle_s >= self._idle_timeout_s:
                self.end(f"the client was idle for {self._idle_timeout_s:g} seconds")

    def end(self, text: str) -> None:
        """End it; the text is for the user."""
        self._cut(text, text)

    def _cut(self, reason: str, text: str) -> None:
        if self._why:
            return
        self._why, self._text = reason, text
        if self._relay is not None:
            self._relay.end(text)

    def _check(self) -> None:
        """Before each step towards the server: it may have ended meanwhile."""
        if self._why or self._relayed:
            raise DeniedError(self._text or NO_LONGER)

    def _note(self, why: str) -> None:
        self._why = self._why or why


def _terms_of(decision: Decision) -> tuple[object, ...]:
    """What a made user gets by it."""
    return tuple(decision.principals.get(name, ()) for name in ("db_roles", "db_permissions"))
