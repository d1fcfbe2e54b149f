"""The way to a session: what a client begins with, and the agent's own login at the server."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass

from pkgs.agents.db.postgres import limits, readonly
from pkgs.agents.db.postgres.conversation import broken_promise
from pkgs.common.dbwire.postgres import backend, startup
from pkgs.common.dbwire.postgres.frames import HEADER
from pkgs.common.dbwire.postgres.frontend import query
from pkgs.common.dbwire.postgres.startup import CancelRequest, EncryptionRequest, Startup
from pkgs.common.errors import (
    DeniedError,
    InputError,
    LimitExceededError,
    ProtocolError,
    TrustError,
    UnavailableError,
)
from pkgs.common.net.stream import Stream


class ServerError(UnavailableError):
    """The server refused; `raw` is its ErrorResponse."""

    def __init__(self, raw: bytes) -> None:
        report = backend.parse_report(memoryview(raw))
        super().__init__(f"the database server refused: {report.get('M')}", detail=report.get("C"))
        self.raw = raw


@dataclass(frozen=True, slots=True)
class Login:
    raw: bytes
    """Everything the server said until it was ready, for the client."""
    pid: int
    key: bytes
    """Both empty when the server has no cancel requests."""
    settings: dict[str, str]


async def greet(client: Stream) -> CancelRequest | Startup:
    """The first packet that is not about encryption: that is there already. Raises ProtocolError."""
    for _ in range(limits.ENCRYPTION_REQUESTS_MAX + 1):
        length = startup.first_length(await client.read_exactly(startup.LENGTH))
        first = startup.parse_first(await client.read_exactly(length))
        if not isinstance(first, EncryptionRequest):
            return first
        client.write(b"N")
        await client.drain()
    raise ProtocolError("the client asks for encryption over and over")


def text_of(first: Startup, name: bytes) -> str:
    """A parameter as text, compared by policy as it is (attack A26). Raises InputError."""
    try:
        return first.get(name).decode()
    except UnicodeDecodeError as exc:
        raise InputError(f"the {name.decode()} is no text in UTF-8") from exc


def own_startup(first: Startup, *, user: str, database: str, read_only: bool) -> Startup:
    """The client's, as the decision was. Raises DeniedError for a replication connection, which is bound to
    no database and copies them all, and InputError without a database."""
    if text_of(first, b"replication").lower() not in ("", "false", "off", "no", "0"):
        raise DeniedError("replication connections are not served", hint="connect to a database")
    if not database:
        raise InputError("no database is named", hint="name one, as in `psql dbname=...`")
    ours = {b"user": user.encode(), b"database": database.encode()}
    if read_only:
        ours[readonly.SETTING.encode()] = b"on"
    replaced = {*ours, b"replication"}
    theirs = tuple(pair for pair in first.parameters if pair[0].lower() not in replaced)
    return Startup(first.version, (*theirs, *ours.items()))


async def ask_for_tls(server: Stream) -> None:
    """Leave the stream where the TLS handshake begins. Raises TrustError, ProtocolError."""
    server.write(EncryptionRequest().encode())
    await server.drain()
    answer = await server.read_exactly(1)
    if answer == b"N":
        raise TrustError("the database server does not offer TLS", hint="set `ssl = on` in postgresql.conf")
    # Bytes that came before the handshake would otherwise be read as if they had come inside it.
    if answer != b"S" or server.holds_more:
        raise ProtocolError("the database server does not answer as PostgreSQL does")


async def log_in(server: Stream, packet: Startup, *, read_only: bool) -> Login:
    """To the point where the server is ready. Raises ServerError with the server's own refusal, TrustError
    when it wants more than the certificate, DeniedError when it cannot be held to reading."""
    server.write(packet.encode())
    await server.drain()
    said: list[bytes] = []
    pid, key = 0, b""
    settings: dict[str, str] = {}
    async for raw in messages(server, limits.LOGIN_BYTES_MAX):
        view = memoryview(raw)
        match raw[0]:
            case backend.AUTHENTICATION:
                if asked := backend.parse_authentication(view):
                    raise TrustError(
                        f"the database server asks for {asked}, and does not accept the certificate alone",
                        hint="its pg_hba.conf needs a line like `hostssl all all all cert`",
                    )
            case backend.ERROR:
                raise ServerError(raw)
            case backend.KEY_DATA:
                pid, key = backend.parse_key_data(view)
            case backend.PARAMETER_STATUS:
                name, value = backend.parse_parameter_status(view)
                settings[name] = value
            case backend.NOTICE | backend.NEGOTIATE | backend.READY:
                pass
            case _:
                raise ProtocolError("the database server does not log in as PostgreSQL does")
        said.append(raw)
    if read_only:
        _check_read_only(settings)
    return Login(b"".join(said), pid, key, settings)


def _check_read_only(settings: dict[str, str]) -> None:
    if readonly.SETTING not in settings:
        raise DeniedError(
            "this session may only read, and the server does not report whether it keeps to that",
            hint="PostgreSQL does since version 14",
        )
    for name, value in settings.items():
        if why := broken_promise(name, value):
            raise DeniedError(why)


async def rows_of(server: Stream, text: str) -> list[list[bytes | None]]:
    """Run a query of ours before the session is the client's. Raises ServerError, LimitExceededError."""
    server.write(query(text))
    await server.drain()
    found: list[list[bytes | None]] = []
    async for raw in messages(server, limits.CATALOG_BYTES_MAX):
        if raw[0] == backend.ERROR:
            raise ServerError(raw)
        if raw[0] == backend.DATA_ROW:
            found.append(backend.parse_data_row(memoryview(raw)))
    return found


async def messages(server: Stream, most: int) -> AsyncIterator[bytes]:
    """Whole messages up to ReadyForQuery, which is the last; `most` bytes of them. Raises ProtocolError,
    LimitExceededError."""
    while True:
        header = await server.read_exactly(HEADER)
        length = int.from_bytes(header[1:], "big")
        if header[0] not in backend.KINDS or length < 4:
            raise ProtocolError("the database server does not speak PostgreSQL's protocol")
        most -= length
        if length > limits.LOGIN_MESSAGE_MAX or most < 0:
            raise LimitExceededError("the database server says too much before it is ready")
        yield header + await server.read_exactly(length - 4)
        if header[0] == backend.READY:
            return
