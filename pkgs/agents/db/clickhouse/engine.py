"""The engine: orders the steps of a ClickHouse session."""

from __future__ import annotations

import contextlib

import h11

from pkgs.agents.db.clickhouse import limits, requests
from pkgs.agents.db.clickhouse.conversation import ClickhouseConversation
from pkgs.agents.db.deadlines import within
from pkgs.agents.db.engine import Asked, Session
from pkgs.common.errors import AccessError, DeniedError, InputError, ProtocolError, UnavailableError
from pkgs.common.net.stream import Stream
from pkgs.common.resources.kinds import Database


class ClickhouseEngine:
    protocols: tuple[str, ...] = ("clickhouse-http",)
    restricts = False

    async def serve(self, client: Stream, session: Session) -> None:
        try:
            async with within(limits.FIRST_REQUEST_S, "the client sent no request"):
                asked = await _first_request(client, session.database.name)
            granted = await session.authorize(asked)
            server = await session.dial()
            try:
                async with within(limits.SERVER_CONNECT_S, "the database server did not answer"):
                    server = await session.secure(server)
                await session.relay(client, server, ClickhouseConversation(granted.user))
            finally:
                server.abort()
        except AccessError as exc:
            if not client.closed:
                with contextlib.suppress(UnavailableError):
                    client.write(requests.refusal(_kind(exc), str(exc)))
                    await client.drain()
            raise

    async def probe(self, server: Stream, database: Database) -> None:
        """Nothing to see: such a server speaks only inside TLS, and there only to our certificates."""


async def _first_request(client: Stream, database: str) -> Asked:
    """Whom the first request names. It stays in the stream, for the conversation."""
    raw = b""
    while not raw.endswith(b"\r\n\r\n"):
        if len(raw) >= limits.HEAD_MAX:
            raise ProtocolError("the head of the request is too long")
        raw = await client.peek(len(raw) + 1)
    connection = h11.Connection(h11.SERVER, max_incomplete_event_size=limits.HEAD_MAX)
    connection.receive_data(raw)
    try:
        event = connection.next_event()
    except h11.RemoteProtocolError as exc:
        raise ProtocolError("the client does not speak HTTP/1.1 as it should", detail=str(exc)) from exc
    if not isinstance(event, h11.Request):
        raise ProtocolError("the client does not speak HTTP/1.1 as it should")
    requests.check_host(event, database)
    said = requests.understand(event)
    agent = dict(event.headers).get(b"user-agent", b"").decode("utf-8", "replace")
    return Asked(said.users[0] if said.users else "", _database(said), agent)


def _database(said: requests.Asked) -> str:
    named = {name.lower(): value for name, value in said.fields}
    headers = {name.lower(): value for name, value in said.headers}
    return named.get("database") or headers.get(b"x-clickhouse-database", b"").decode("utf-8", "replace")


def _kind(exc: AccessError) -> tuple[int, int]:
    if isinstance(exc, DeniedError):
        return requests.DENIED
    return requests.BAD if isinstance(exc, InputError | ProtocolError) else requests.UNAVAILABLE
