"""Clients of the proxy's MySQL port, byte by byte."""

from __future__ import annotations

import ssl

from pkgs.common.dbwire.mysql import answers, handshake
from pkgs.common.dbwire.mysql.flags import OFFERED, Capability
from pkgs.common.dbwire.mysql.handshake import Greeting, Response
from pkgs.common.dbwire.mysql.packets import HEADER, frame
from pkgs.common.net.stream import Stream, adopt
from tests.integration.proxy_kit import ProxyKit
from tests.security.proxy_attack_kit import connect

MYSQL = "  mysql_listen_addr: 127.0.0.1:0\n"
"""For the settings of a `proxy`."""
REQUEST = frame(1, handshake.ssl_request(OFFERED, 1 << 24, 45))
LOGIN = handshake.response(Response(OFFERED, "alice", b"x" * 20))


def mysql_addr(kit: ProxyKit) -> str:
    return kit.service.shown_addresses.mysql_listen


async def packet(stream: Stream) -> tuple[int, bytes]:
    header = await stream.read_exactly(HEADER)
    return header[3], await stream.read_exactly(int.from_bytes(header[:3], "little"))


async def greeted(kit: ProxyKit, first: bytes = b"", source: str = "127.0.0.1") -> tuple[Stream, Greeting]:
    """A client that says something before it has heard the greeting."""
    stream = await adopt(await connect(mysql_addr(kit), source))
    if first:
        stream.write(first)
    sequence, payload = await packet(stream)
    said = handshake.parse_greeting(payload)
    assert sequence == 0 and Capability.SSL in said.capabilities
    return stream, said


async def refused_inside_tls(stream: Stream, name: str) -> answers.Error:
    """What a client reads that asks for TLS with this name in its hello, whatever certificate it sees."""
    stream.write(REQUEST)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    await stream.handshake(context, server=False, server_hostname=name)
    stream.write(frame(2, LOGIN))
    sequence, payload = await packet(stream)
    assert sequence == 3 and payload[0] == answers.ERR
    return answers.parse_error(payload)
