"""The steps of a connection with PostgreSQL's protocol.

    client: [SSLRequest -> N] StartupMessage          CancelRequest
    us:      authorize, dial, TLS, log in as granted   -> the server of that session, then close
    server:  AuthenticationOk, ParameterStatus..., BackendKeyData, ReadyForQuery -> the client, as they are
    both:    the conversation

The client has proved itself by its certificate in the TLS around all this, so it is never asked for anything.
"""

from __future__ import annotations

import contextlib

from pkgs.agents.db.deadlines import logging_in, within
from pkgs.agents.db.engine import Asked, Secure, Session
from pkgs.agents.db.postgres import limits
from pkgs.agents.db.postgres.cancel import Cancels, LiveSessions
from pkgs.agents.db.postgres.conversation import PostgresConversation
from pkgs.agents.db.postgres.login import (
    Login,
    ServerError,
    ask_for_tls,
    greet,
    log_in,
    own_startup,
    rows_of,
    text_of,
)
from pkgs.agents.db.postgres.masking import Masking, lookup
from pkgs.common.dbwire.postgres import backend
from pkgs.common.dbwire.postgres.startup import CancelRequest, Startup
from pkgs.common.errors import (
    AccessError,
    DeniedError,
    InputError,
    ProtocolError,
    TrustError,
    UnavailableError,
)
from pkgs.common.net.stream import Stream
from pkgs.common.resources.kinds import Database
from pkgs.common.resources.role import DbConditions

_CODES: tuple[tuple[type[AccessError], str], ...] = (
    (DeniedError, "28000"),
    (InputError, "3D000"),
    (ProtocolError, "08P01"),
    (UnavailableError, "08001"),
    (TrustError, "08001"),
)
"""SQLSTATE: invalid authorization, invalid database, protocol violation, no connection to the server."""


class PostgresEngine:
    protocols: tuple[str, ...] = ("postgres", "cockroachdb")
    restricts = True

    def __init__(self) -> None:
        self._live = LiveSessions()

    async def serve(self, client: Stream, session: Session) -> None:
        try:
            async with within(limits.LOGIN_S, "the client did not say what it wants"):
                first = await greet(client)
            if isinstance(first, CancelRequest):
                if (cancels := self._live.find(session, first)) is not None:
                    await cancels.send()
                return
            await self._session(client, session, first)
        except AccessError as exc:
            await _refuse(client, exc)
            raise
        finally:
            await client.close()

    async def probe(self, server: Stream, database: Database, secure: Secure) -> None:
        async with logging_in(database, limits.LOGIN_S):
            await ask_for_tls(server)
            await (await secure(server)).close()

    async def _session(self, client: Stream, session: Session, first: Startup) -> None:
        granted = await session.authorize(
            Asked(
                text_of(first, b"user"),
                text_of(first, b"database"),
                first.get(b"application_name").decode("utf-8", "replace"),
            )
        )
        policy = granted.policy
        packet = own_startup(first, user=granted.user, database=granted.database, read_only=policy.read_only)
        server = await session.dial()
        try:
            async with logging_in(session.database, limits.LOGIN_S):
                await ask_for_tls(server)
                server = await session.secure(server)
                login = await log_in(server, packet, read_only=policy.read_only)
                masks = await _masking(server, policy)
            await self._relay(client, server, session, login, policy, masks)
        finally:
            server.abort()

    async def _relay(
        self,
        client: Stream,
        server: Stream,
        session: Session,
        login: Login,
        policy: DbConditions,
        masks: Masking | None,
    ) -> None:
        cancels = Cancels(session, login)
        conversation = PostgresConversation(
            policy, masks, cancel=lambda: cancels.start(lambda: conversation.stopping)
        )
        if login.key:
            session.know(postgres_pid=login.pid)
        with self._live.entered(session, cancels):
            client.write(login.raw)
            try:
                await session.relay(client, server, conversation)
            finally:
                await cancels.stop()
                if conversation.busy:
                    # The server would notice that nobody listens only when it has something to say.
                    await cancels.send()


async def _masking(server: Stream, policy: DbConditions) -> Masking | None:
    if not policy.mask:
        return None
    catalog = await rows_of(server, lookup(policy.mask))
    return Masking(policy.mask, computed=policy.mask_computed, catalog=catalog)


async def _refuse(client: Stream, exc: AccessError) -> None:
    """The error in the protocol's shape; the server's own as it is. Nothing when the session had begun: then
    the conversation has said what there was to say."""
    if client.closed:
        return
    if isinstance(exc, ServerError):
        raw = exc.raw
    else:
        code = next((code for kind, code in _CODES if isinstance(exc, kind)), "XX000")
        raw = backend.error(exc.message, code, severity="FATAL", hint=exc.hint)
    with contextlib.suppress(AccessError):
        client.write(raw)
