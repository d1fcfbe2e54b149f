"""The login: greeting, request for TLS, the client's response, and what a server may ask after it."""

from __future__ import annotations

from dataclasses import dataclass, field

from pkgs.common.dbwire.mysql.flags import Capability
from pkgs.common.dbwire.mysql.values import Reader, counted, lenenc
from pkgs.common.errors import ProtocolError

NATIVE_PASSWORD = "mysql_native_password"  # noqa: S105 (a plugin's name)
CACHING_SHA2 = "caching_sha2_password"
SCRAMBLE_SIZE = 20
SWITCH = 0xFE
MORE_DATA = 0x01
_VERSION = 10
_SSL_REQUEST_SIZE = 32
_UTF8MB4 = 45


@dataclass(frozen=True, slots=True)
class Greeting:
    """A server's first packet (handshake v10)."""

    version: str
    """As clients show it; MariaDB puts `5.5.5-` before its own."""
    thread: int
    scramble: bytes = field(repr=False)
    capabilities: Capability
    charset: int = _UTF8MB4
    status: int = 0x0002
    plugin: str = NATIVE_PASSWORD


@dataclass(frozen=True, slots=True)
class Response:
    """The client's answer to it (HandshakeResponse41)."""

    capabilities: Capability
    user: str
    auth: bytes = field(default=b"", repr=False)
    database: str = ""
    plugin: str = ""
    attributes: bytes = b""
    """Pairs of length-encoded strings, as sent."""
    packet_max: int = 0x1000000
    charset: int = _UTF8MB4


def parse_greeting(payload: bytes) -> Greeting:
    reader = Reader(payload)
    if (version := reader.integer(1)) != _VERSION:
        raise ProtocolError(f"the server greets with version {version} of MySQL's protocol, not {_VERSION}")
    name = _text(reader.terminated())
    thread = reader.integer(4)
    scramble = reader.take(8)
    reader.take(1)
    capabilities = reader.integer(2)
    charset = reader.integer(1)
    status = reader.integer(2)
    capabilities |= reader.integer(2) << 16
    size = reader.integer(1)
    reader.take(10)
    plugin = ""
    if capabilities & Capability.SECURE_CONNECTION:
        scramble += reader.take(max(13, size - 8))[:-1]
    if capabilities & Capability.PLUGIN_AUTH:
        # Some servers leave the last zero byte out.
        plugin = _text(reader.rest().split(b"\0", 1)[0])
    return Greeting(name, thread, scramble, Capability(capabilities), charset, status, plugin)


def greeting(said: Greeting) -> bytes:
    """The payload. The scramble has 20 bytes, none of them zero."""
    flags = said.capabilities.to_bytes(4, "little")
    return b"".join(
        (
            bytes((_VERSION,)),
            said.version.encode() + b"\0",
            said.thread.to_bytes(4, "little"),
            said.scramble[:8] + b"\0",
            flags[:2],
            bytes((said.charset,)),
            said.status.to_bytes(2, "little"),
            flags[2:],
            bytes((SCRAMBLE_SIZE + 1,)),
            bytes(10),
            said.scramble[8:] + b"\0",
            said.plugin.encode() + b"\0",
        )
    )


def is_ssl_request(payload: bytes) -> bool:
    """Whether a client's first packet asks for TLS instead of logging in."""
    if len(payload) < _SSL_REQUEST_SIZE:
        return False
    return len(payload) == _SSL_REQUEST_SIZE and bool(int.from_bytes(payload[:4], "little") & Capability.SSL)


def ssl_request(capabilities: Capability, packet_max: int, charset: int) -> bytes:
    """Asks the server for TLS; the response follows inside."""
    return (
        (capabilities | Capability.SSL).to_bytes(4, "little")
        + packet_max.to_bytes(4, "little")
        + bytes((charset,))
        + bytes(23)
    )


def parse_response(payload: bytes) -> Response:
    reader = Reader(payload)
    said = reader.integer(4)
    if not said & Capability.PROTOCOL_41:
        raise ProtocolError("the client speaks MySQL's protocol from before version 4.1")
    packet_max = reader.integer(4)
    charset = reader.integer(1)
    # MariaDB's clients put their extensions into the last four of these.
    reader.take(23)
    user = _text(reader.terminated())
    if said & Capability.PLUGIN_AUTH_LENENC:
        auth = reader.counted()
    elif said & Capability.SECURE_CONNECTION:
        auth = reader.take(reader.integer(1))
    else:
        auth = reader.terminated()
    database = plugin = ""
    attributes = b""
    # Clients end a packet early when there is no more to say, and some leave the last zero byte out.
    if said & Capability.CONNECT_WITH_DB and reader.left:
        database = _text(reader.terminated())
    if said & Capability.PLUGIN_AUTH and reader.left:
        plugin = _text(reader.terminated())
    if said & Capability.CONNECT_ATTRS and reader.left:
        attributes = reader.counted()
    return Response(Capability(said), user, auth, database, plugin, attributes, packet_max, charset)


def response(said: Response) -> bytes:
    """The payload. Its capabilities decide which fields are sent."""
    flags = said.capabilities
    parts = [
        flags.to_bytes(4, "little"),
        said.packet_max.to_bytes(4, "little"),
        bytes((said.charset,)),
        bytes(23),
        said.user.encode() + b"\0",
    ]
    if flags & Capability.PLUGIN_AUTH_LENENC:
        parts.append(counted(said.auth))
    else:
        parts.append(lenenc(len(said.auth)) + said.auth)
    if flags & Capability.CONNECT_WITH_DB:
        parts.append(said.database.encode() + b"\0")
    if flags & Capability.PLUGIN_AUTH:
        parts.append(said.plugin.encode() + b"\0")
    if flags & Capability.CONNECT_ATTRS:
        parts.append(counted(said.attributes))
    return b"".join(parts)


def parse_attributes(raw: bytes) -> dict[str, str]:
    """Connection attributes: what a client's library says of itself."""
    reader = Reader(raw)
    found = {}
    while reader.left:
        name = reader.counted()
        found[name.decode("utf-8", "replace")] = reader.counted().decode("utf-8", "replace")
    return found


def parse_switch(payload: bytes) -> str:
    """The plugin that a server wants the login to go on with. (A bare mark asks for the oldest method.)"""
    reader = Reader(payload, 1)
    return _text(reader.terminated()) if reader.left else "mysql_old_password"


def _text(raw: bytes) -> str:
    try:
        return raw.decode()
    except UnicodeDecodeError as exc:
        raise ProtocolError("a name in MySQL's login is not UTF-8") from exc
