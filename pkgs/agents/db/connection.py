"""One user's connection to one database: everything an engine asks of the service, in its order.

authorize (decided, audited) -> dial -> secure -> relay (reviewed) -> end
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable
from dataclasses import dataclass, replace

from pkgs.agents.db import limits
from pkgs.agents.db.audit import Keeping, SessionRecord
from pkgs.agents.db.credentials import Credentials, server_name
from pkgs.agents.db.engine import Asked, Conversation, Engine, Granted
from pkgs.agents.db.gate import NO_LONGER, Gate
from pkgs.agents.db.registry import address_of
from pkgs.agents.db.relay import Ended, Relay
from pkgs.common.access.types import ConnectDatabase
from pkgs.common.errors import AccessError, DeniedError, ProtocolError, TrustError, UnavailableError
from pkgs.common.membership.reviews import Reviews
from pkgs.common.net.dial import dial_resolved, resolve
from pkgs.common.net.sockets import join_host_port, split_host_port
from pkgs.common.net.stream import Stream, adopt
from pkgs.common.pki.identity import Identity
from pkgs.common.resources.kinds import Database


@dataclass(frozen=True, slots=True)
class Shared:
    """What all connections of the service have in common."""

    gate: Gate
    keeping: Keeping
    credentials: Credentials
    reviews: Reviews
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
    ) -> None:
        """With a `refusal` it begins only to say so in the protocol's shape: that one authorizes nothing."""
        self._shared = shared
        self._identity = identity
        self._der = der
        self._database = database
        self._client_addr = client_addr
        self._source = split_host_port(client_addr)[0]
        self._refusal = refusal
        self._record = SessionRecord(shared.keeping, identity, database, client_addr)
        self._target: ConnectDatabase | None = None
        self._granted: Granted | None = None
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
            text = decision.text or gate.denied(self._identity, target, self._source)
            await self._record.refused(asked, "; ".join(decision.reasons), text)
            raise DeniedError(text, reasons=decision.reasons)
        made = decision.principals.get("create_db_user_mode", ("off",))[0] != "off"
        user = self._identity.name if made else target.user
        granted = Granted(user, target.name, decision.principals.get("db_roles", ()))
        options = gate.options(self._identity, self._source)
        self._idle_timeout_s = options.client_idle_timeout_s
        await self._record.begin(asked, granted, strict=options.record_strict_default, give_up=self.end)
        self._target = ConnectDatabase(target.db, user, target.name, target.roles)
        self._granted = granted
        self._shared.reviews.add(self)
        return granted

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
        host, port = address_of(self._database)
        addr = join_host_port(host, port)
        try:
            addresses = await resolve(host, port, deadline_s=limits.SERVER_DIAL_S)
            sock = await dial_resolved(addresses, addr, deadline_s=limits.SERVER_DIAL_S)
        except UnavailableError as problem:
            raise UnavailableError(
                f"the agent cannot connect to database {self._database.name} at {addr}",
                detail=f"{problem.message} {problem.detail}".strip(),
                hint="check that it runs and that the agent's host may reach it",
            ) from problem
        stream = await adopt(sock)
        self._dialled = [one for one in self._dialled if not one.closed] + [stream]
        if clearing:
            self._cleared_by = stream
        return stream

    async def secure(self, stream: Stream) -> Stream:
        if stream is not self._cleared_by:
            self._check()
        assert self._granted is not None
        name = self._database.name
        context = await self._shared.credentials.context(self._database, self._granted.user)
        try:
            async with asyncio.timeout(limits.SERVER_DIAL_S):
                await stream.handshake(context, server=False, server_hostname=server_name(self._database))
        except TimeoutError:
            raise UnavailableError(f"database {name} does not answer the agent's TLS handshake") from None
        except TrustError as problem:
            raise TrustError(
                f"the agent does not trust database {name}: {problem.message}",
                hint="`tctl auth sign --format=db` makes certificates; or name its authority in tls.ca_cert",
            ) from problem
        except (ProtocolError, ssl.SSLError) as problem:
            raise UnavailableError(
                f"database {name} refused the agent's TLS",
                detail=str(getattr(problem, "detail", "") or problem),
                hint="it must speak TLS, and believe the clients of `tctl auth sign --format=db`",
            ) from problem
        return stream

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
