"""The engine: orders the steps of a Redis session."""

from __future__ import annotations

import contextlib

from pkgs.agents.db.deadlines import logging_in, within
from pkgs.agents.db.engine import Asked, Secure, Session
from pkgs.agents.db.redis import limits
from pkgs.agents.db.redis.conversation import RedisConversation
from pkgs.common.dbwire.redis import build
from pkgs.common.dbwire.redis.requests import Requests
from pkgs.common.errors import AccessError, DeniedError, ProtocolError, UnavailableError
from pkgs.common.net.stream import PeerGoneError, Stream
from pkgs.common.resources.kinds import Database

_NO_PASSWORD = b"certificate"
"""Servers demand a word, and take any for an account without a password."""


class RedisEngine:
    protocols: tuple[str, ...] = ("redis",)
    restricts = False

    async def serve(self, client: Stream, session: Session) -> None:
        try:
            async with within(limits.FIRST_COMMAND_S, "the client sent no command"):
                asked = await _first_command(client)
            granted = await session.authorize(asked)
            login = build.request(b"AUTH", granted.user.encode(), _NO_PASSWORD)
            server = await session.dial()
            try:
                async with logging_in(session.database, limits.SERVER_LOGIN_S):
                    server = await session.secure(server)
                    await _log_in(server, granted.user, login)
                await session.relay(client, server, RedisConversation(granted.user, login))
            finally:
                server.abort()
        except AccessError as exc:
            if not client.closed:
                code = "NOPERM" if isinstance(exc, DeniedError) else "ERR"
                with contextlib.suppress(UnavailableError):
                    client.write(build.error(f"{code} {exc}"))
                    await client.drain()
            raise

    async def probe(self, server: Stream, database: Database, secure: Secure) -> None:
        async with logging_in(database, limits.SERVER_LOGIN_S):
            server = await secure(server)
            server.write(build.request(b"PING"))
            await server.drain()
            reply = await _reply(server)
        # Without a login most say NOAUTH: they are there all the same.
        if not reply.startswith((b"+PONG", b"-NOAUTH", b"-NOPERM")):
            raise UnavailableError("the database server does not answer a PING", detail=_said(reply))


async def _first_command(client: Stream) -> Asked:
    """Whom the first command names. It stays in the stream, for the conversation to answer."""
    requests = Requests(limits.ARGUMENTS_KEPT, limits.ARGUMENT_KEPT)
    raw, pos = b"", 0
    while not requests.whole and len(raw) < limits.FIRST_COMMAND_MAX:
        raw = await client.peek(len(raw) + 1)
        pos = requests.read(raw, pos)
        if requests.complete and requests.complete[0].lower() not in (b"auth", b"hello"):
            return Asked("")
    words = requests.arguments
    if requests.whole and words:
        name = words[0].lower()
        if name == b"auth" and len(words) == 3:
            return Asked(_text(words[1]))
        if name == b"hello" and len(words) > 4 and words[2].lower() == b"auth":
            return Asked(_text(words[3]))
    return Asked("")


def _text(raw: bytes) -> str:
    try:
        return raw.decode()
    except UnicodeDecodeError as exc:
        raise ProtocolError("the user of the database is not UTF-8") from exc


async def _log_in(server: Stream, user: str, login: bytes) -> None:
    server.write(login)
    await server.drain()
    reply = await _reply(server)
    if reply == build.OK:
        return
    if not reply.startswith(b"-"):
        raise ProtocolError("that is no reply of it")
    said = _said(reply)
    if said.startswith("WRONGPASS"):
        raise DeniedError(
            f'the database server does not let "{user}" in by certificate alone',
            detail=said,
            hint=f"declare the user there without a password: ACL SETUSER {user} on nopass ...",
        )
    raise UnavailableError(f"the database server says: {said}")


async def _reply(server: Stream) -> bytes:
    """One line, and nothing behind it."""
    reply = b""
    while not reply.endswith(b"\r\n"):
        if len(reply) > limits.LOGIN_REPLY_MAX:
            raise ProtocolError("that is no reply of it")
        got = await server.read_some()
        if not got:
            raise PeerGoneError("the other side closed the connection")
        reply += got
    if reply[:1] not in (b"+", b"-") or reply.count(b"\n") != 1:
        raise ProtocolError("that is no reply of it")
    return reply


def _said(reply: bytes) -> str:
    return reply[1:-2].decode("utf-8", "replace")
