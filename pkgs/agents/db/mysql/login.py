"""Both logins: the client's to us, without a password, and ours to the server, with a certificate."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass

from pkgs.agents.db.engine import Asked, Granted
from pkgs.common.dbwire.mysql import answers, handshake
from pkgs.common.dbwire.mysql.flags import LAYOUT, Capability
from pkgs.common.dbwire.mysql.handshake import Greeting, Response
from pkgs.common.dbwire.mysql.limits import LOGIN_PACKET_MAX, LOGIN_PACKETS_MAX
from pkgs.common.dbwire.mysql.packets import HEADER, frame
from pkgs.common.errors import DeniedError, ProtocolError, TrustError, UnavailableError
from pkgs.common.net.stream import Stream

_ALWAYS = (
    Capability.LONG_PASSWORD
    | Capability.PROTOCOL_41
    | Capability.SECURE_CONNECTION
    | Capability.PLUGIN_AUTH
    | Capability.PLUGIN_AUTH_LENENC
)
"""How our own login is written."""
_WITHOUT_PASSWORD = {handshake.NATIVE_PASSWORD: b"", handshake.CACHING_SHA2: b"\0"}
"""What a client of a plugin sends for an account without a password."""
_CERTIFICATE_HINT = (
    "the account must be let in by certificate alone: REQUIRE SUBJECT or REQUIRE ISSUER, without a password"
)


async def read_packet(stream: Stream) -> tuple[int, bytes]:
    """A packet of a login: its sequence number and payload."""
    header = await stream.read_exactly(HEADER)
    length = int.from_bytes(header[:3], "little")
    if length > LOGIN_PACKET_MAX:
        raise ProtocolError("a packet of a MySQL login is too long; is this MySQL's port?")
    return header[3], await stream.read_exactly(length)


async def greet(client: Stream, said: Greeting) -> None:
    client.write(frame(0, handshake.greeting(said)))
    await client.drain()


async def hear(client: Stream) -> tuple[int, Response]:
    """Who a client that was greeted wants to be: the number of its packet, and its response."""
    sequence, payload = await read_packet(client)
    if handshake.is_ssl_request(payload):
        raise ProtocolError("the connection is encrypted already", hint="switch off TLS in the client")
    return sequence, handshake.parse_response(payload)


def asked(said: Response) -> Asked:
    told = {}
    if said.attributes:
        told = handshake.parse_attributes(said.attributes)
    name = told.get("program_name") or told.get("_client_name", "")
    version = told.get("_client_version", "")
    return Asked(said.user, said.database, f"{name} {version}".strip()[:256])


async def hear_greeting(server: Stream) -> Greeting:
    """The server's greeting. Raises UnavailableError with its own words when it greets with an error."""
    _, payload = await read_packet(server)
    if payload[:1] == bytes((answers.ERR,)):
        raise UnavailableError(
            f"the database server refuses connections: {answers.parse_error(payload).message}"
        )
    said = handshake.parse_greeting(payload)
    if not said.capabilities & Capability.SSL:
        raise TrustError(
            "the database server offers no TLS", hint="give it a certificate: tctl auth sign --format=mysql"
        )
    return said


@dataclass(frozen=True, slots=True)
class Agreed:
    """What client and server have in common."""

    capabilities: Capability
    greeting: Greeting
    """The server's."""


async def ask_for_tls(server: Stream, said: Response, granted: Granted, offered: Capability) -> Agreed:
    """Hear the server's greeting and ask it for TLS, which then has to begin on the stream."""
    greeting = await hear_greeting(server)
    agreed = said.capabilities & offered
    if missing := agreed & LAYOUT & ~greeting.capabilities:
        raise UnavailableError(
            f"the database server ({greeting.version}) is too old: it lacks {missing.name} of the protocol"
        )
    agreed &= greeting.capabilities
    request = handshake.ssl_request(_flags(agreed, granted), said.packet_max, said.charset)
    server.write(frame(1, request))
    await server.drain()
    if server.holds_more:
        # It would be read later as if it had come inside TLS.
        raise ProtocolError("the database server said more than its greeting before TLS")
    return Agreed(agreed, greeting)


def _flags(agreed: Capability, granted: Granted) -> Capability:
    """For our login. Servers take those of the request for TLS, so both have to say the same."""
    flags = agreed & ~Capability.CONNECT_WITH_DB | _ALWAYS
    return flags | Capability.CONNECT_WITH_DB if granted.database else flags


async def log_in(server: Stream, said: Response, granted: Granted, agreed: Agreed) -> bytes:
    """Log in as decided, inside TLS: the OK with which the server lets us in."""
    plugin = agreed.greeting.plugin
    if plugin not in _WITHOUT_PASSWORD:
        plugin = handshake.NATIVE_PASSWORD
    ours = Response(
        _flags(agreed.capabilities, granted) | Capability.SSL,
        granted.user,
        _WITHOUT_PASSWORD[plugin],
        granted.database,
        plugin,
        said.attributes,
        said.packet_max,
        said.charset,
    )
    server.write(frame(2, handshake.response(ours)))
    await server.drain()
    return await _let_in(server, granted.user)


async def _let_in(server: Stream, user: str) -> bytes:
    for _ in range(LOGIN_PACKETS_MAX):
        sequence, payload = await read_packet(server)
        mark = payload[0] if payload else None
        if mark == answers.OK:
            return payload
        if mark == answers.ERR:
            raise ServerRefused(answers.parse_error(payload))
        plugin = handshake.parse_switch(payload) if mark == handshake.SWITCH else ""
        if plugin not in _WITHOUT_PASSWORD:
            # A login that gets no answer counts against this host, one that is refused does not.
            server.write(frame(sequence + 1, b""))
            await server.drain()
            with contextlib.suppress(UnavailableError, ProtocolError):
                await read_packet(server)
            wants = f"by {plugin}" if plugin else "a password"
            raise DeniedError(
                f'the database server wants {wants} for its account "{user}"', hint=_CERTIFICATE_HINT
            )
        server.write(frame(sequence + 1, _WITHOUT_PASSWORD[plugin]))
        await server.drain()
    raise ProtocolError("the database server's login does not come to an end")


class ServerRefused(UnavailableError):
    """The server's own error at the login, for the client in the same shape."""

    def __init__(self, said: answers.Error) -> None:
        denied = said.code == answers.ACCESS_DENIED[0]
        super().__init__(
            f"the database server says: {said.message}", hint=_CERTIFICATE_HINT if denied else ""
        )
        self.kind = (said.code, said.state if len(said.state) == 5 else "HY000")
