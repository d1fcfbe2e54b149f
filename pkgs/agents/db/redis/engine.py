"""The engine: orders the steps of a Redis session."""

from __future__ import annotations

import contextlib

from pkgs.agents.db.deadlines import within
from pkgs.agents.db.engine import Asked, Session
from pkgs.agents.db.redis import limits
from pkgs.agents.db.redis.conversation import RedisConversation
from pkgs.common.dbwire.redis import build
from pkgs.common.dbwire.redis.requests import Requests
from pkgs.common.errors import AccessError, DeniedError, ProtocolError, UnavailableError
from pkgs.common.net.stream import Stream
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
                async with within(limits.SERVER_LOGIN_S, "the database server did not answer in its login"):
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

    async def probe(self, server: Stream, database: Database) -> None:
        """Nothing to see: such a server speaks only inside TLS, and there only to our certificates."""


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
    reply = b""
    while not reply.endswith(b"\r\n"):
        if len(reply) > limits.LOGIN_REPLY_MAX:
            raise ProtocolError("the database server does not speak Redis's protocol")
        got = await server.read_some()
        if not got:
            raise UnavailableError("the database server closed the connection in its login")
        reply += got
    if reply == build.OK:
        return
    if not reply.startswith(b"-") or reply.count(b"\n") != 1:
        raise ProtocolError("the database server does not speak Redis's protocol")
    said = reply[1:-2].decode("utf-8", "replace")
    if said.startswith("WRONGPASS"):
        raise DeniedError(
            f'the database server does not let "{user}" in by certificate alone',
            detail=said,
            hint=f"declare the user there without a password: ACL SETUSER {user} on nopass ...",
        )
    raise UnavailableError(f"the database server says: {said}")
