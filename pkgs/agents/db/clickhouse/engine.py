"""The engine: orders the steps of a ClickHouse session."""

from __future__ import annotations

import contextlib

import h11

from pkgs.agents.db.clickhouse import limits, requests
from pkgs.agents.db.clickhouse.conversation import ClickhouseConversation
from pkgs.agents.db.deadlines import logging_in, within
from pkgs.agents.db.engine import Asked, Secure, Session
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
                async with logging_in(session.database, limits.SERVER_CONNECT_S):
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

    async def probe(self, server: Stream, database: Database, secure: Secure) -> None:
        async with logging_in(database, limits.SERVER_CONNECT_S):
            status = await _ping(await secure(server))
        if status != 200:
            raise UnavailableError(f"the database server answers its health check with HTTP status {status}")


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
    except h11.RemoteProtocolError:
        # What it says repeats the line, with whatever password is in it.
        raise ProtocolError("the client does not speak HTTP/1.1 as it should") from None
    if not isinstance(event, h11.Request):
        raise ProtocolError("the client does not speak HTTP/1.1 as it should")
    requests.check_host(event, database)
    said = requests.understand(event)
    agent = dict(event.headers).get(b"user-agent", b"").decode("utf-8", "replace")
    return Asked(said.users[0] if said.users else "", _database(said), agent)


async def _ping(server: Stream) -> int:
    """The status of the response, whose body is left unread; nobody has to be anybody for it."""
    connection = h11.Connection(h11.CLIENT, max_incomplete_event_size=limits.HEAD_MAX)
    request = h11.Request(
        method="GET", target="/ping", headers=[("Host", "database"), ("Connection", "close")]
    )
    server.write((connection.send(request) or b"") + (connection.send(h11.EndOfMessage()) or b""))
    await server.drain()
    while True:
        try:
            event = connection.next_event()
            if isinstance(event, h11.Response):
                return event.status_code
            if event is h11.NEED_DATA:
                connection.receive_data(await server.read_some())
        except h11.RemoteProtocolError:
            raise ProtocolError("the database server does not speak HTTP/1.1 as it should") from None


def _database(said: requests.Asked) -> str:
    named = {name.lower(): value for name, value in said.fields}
    headers = {name.lower(): value for name, value in said.headers}
    return named.get("database") or headers.get(b"x-clickhouse-database", b"").decode("utf-8", "replace")


def _kind(exc: AccessError) -> tuple[int, int]:
    if isinstance(exc, DeniedError):
        return requests.DENIED
    return requests.BAD if isinstance(exc, InputError | ProtocolError) else requests.UNAVAILABLE
