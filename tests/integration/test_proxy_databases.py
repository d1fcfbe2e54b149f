"""Connections to databases through the proxy: by the name in the hello alone, to an agent, untouched."""

from __future__ import annotations

import asyncio
import contextlib
import json
from pathlib import Path

import msgspec
import pytest

from pkgs.common.errors import UnavailableError
from pkgs.common.net.dial import dial_tcp
from pkgs.common.net.listener import SSL_REQUEST
from pkgs.common.net.stream import Stream, adopt
from pkgs.common.pki.identity import SystemRole
from pkgs.common.resources.kinds import DatabaseServer, TargetHealth
from pkgs.proxy.connections.databases import database_in
from pkgs.proxy.router import may_be_database
from tests.harness.wait import until
from tests.integration.databases_kit import database_server
from tests.integration.mysql_port_kit import MYSQL, REQUEST, greeted
from tests.integration.proxy_kit import ProxyKit, node, proxy, read_line, run
from tests.unit.net.test_net_clienthello import real_hello

A, B = "11111111-1111-4111-8111-111111111111", "22222222-2222-4222-8222-222222222222"


@pytest.mark.parametrize(
    ("sni", "name"),
    [
        ("orders.db.teleport.cluster.local", "orders"),
        ("orders.db.x", "orders"),
        ("orders.db.", ""),
        ("orders.db", ""),
        ("db.example", ""),
        (".db.example", ""),
        ("a.orders.db.example", ""),
        ("orders.dbs.example", ""),
        ("web.db.example", ""),
        ("", ""),
    ],
)
def test_which_database_a_name_is_about(sni: str, name: str) -> None:
    assert database_in(sni, {"web.db.example"}) == name


def test_offers_of_our_own_protocols_are_for_no_database() -> None:
    for offers in ((), ("postgresql",), ("teleport-postgres",), ("h2", "http/1.1")):
        assert may_be_database(offers)
    for offers in (("teleport-dial",), ("teleport-auth@demo",), ("h2", "teleport-reversetunnel-data")):
        assert not may_be_database(offers)


async def connect(kit: ProxyKit, sni: str, *, asks: bool = False) -> Stream:
    """A client's first bytes; with `asks` as a client of PostgreSQL."""
    stream = await adopt(await dial_tcp(kit.addr))
    if asks:
        stream.write(SSL_REQUEST)
        assert await stream.read_exactly(1) == b"S"
    stream.write(real_hello(sni, []))
    return stream


async def header_of(kit: ProxyKit, sni: str, *, asks: bool = False) -> dict[str, str]:
    """What an agent is told; then the client's bytes come to it as they are."""
    stream = await connect(kit, sni, asks=asks)
    header: dict[str, str] = json.loads(await read_line(stream))
    assert (await stream.read_exactly(3))[:1] == b"\x16"
    await stream.close()
    return header


def announced(name: str, host_id: str, health: str = "healthy") -> DatabaseServer:
    server = database_server(name, host_id)
    health_now = TargetHealth(status=health)  # type: ignore[arg-type]
    return msgspec.structs.replace(
        server, spec=msgspec.structs.replace(server.spec, target_health=health_now)
    )


def test_a_name_leads_to_an_agent_that_serves_it(tmp_path: Path) -> None:
    async def body() -> None:
        async with proxy(tmp_path) as kit:
            # The same host runs an SSH Service too: each has tunnels of its own.
            kit.add(node(A, "web-1"))
            ssh = await kit.agent(A)
            agent = await kit.agent(A, SystemRole.DB)
            kit.cache.database_servers = {"orders": (announced("Orders", A), announced("Orders", B))}
            for asks in (False, True):
                header = await header_of(kit, "orders.db.test", asks=asks)
                assert (header["service"], header["target"]) == ("db", "Orders")
                assert header["client_addr"].startswith("127.0.0.1:")
            # Unknown: an agent gets it all the same, and refuses it.
            header = await header_of(kit, "nothing.db.test")
            assert (header["service"], header["target"]) == ("db", "nothing")
            reply, stream = await kit.dial("web-1")
            assert reply.host_id == A
            assert json.loads(await read_line(stream))["service"] == "ssh"
            await stream.close()
            other = await kit.agent(B, SystemRole.DB)
            both = (announced("orders", A, "unhealthy"), announced("orders", B))
            kit.cache.database_servers = {"orders": both}
            before, unused = len(other.streams), len(agent.streams)
            for _ in range(5):
                await header_of(kit, "orders.db.test")
            await until(lambda: len(other.streams) >= before + 5)
            assert len(agent.streams) == unused
            # The one that found it healthy is gone: the other is better than none.
            await other.close()
            await until(lambda: not kit.service.tunnels.holds(B, SystemRole.DB))
            await header_of(kit, "orders.db.test")
            await until(lambda: len(agent.streams) > unused)
            for one in (ssh, agent):
                await one.close()

    run(body())


def test_the_port_where_mysql_clients_are_greeted(tmp_path: Path) -> None:
    """The agent is told by which number; what comes behind the request for TLS is its own, to the byte."""

    async def body() -> None:
        settings = MYSQL + "  mysql_server_version: 8.0.40\n"
        async with proxy(tmp_path, settings=settings) as kit:
            agent = await kit.agent(A, SystemRole.DB)
            kit.cache.database_servers = {"orders": (announced("Orders", A),)}
            hello = real_hello("orders.db.test", [])
            numbers = set()
            for pieces in (
                (REQUEST, hello),
                (REQUEST + hello,),
                [bytes((byte,)) for byte in REQUEST + hello],
            ):
                stream, said = await greeted(kit)
                assert said.version == "8.0.40"
                for piece in pieces:
                    stream.write(piece)
                    await stream.drain()
                header = json.loads(await read_line(stream))
                assert (header["target"], header["greeted_as"]) == ("Orders", said.thread)
                assert header["client_addr"].startswith("127.0.0.1:")
                assert await stream.read_exactly(len(hello)) == hello
                numbers.add(said.thread)
                stream.abort()
            assert len(numbers) == 3
            header = await header_of(kit, "orders.db.test")
            assert header["greeted_as"] == 0  # type: ignore[comparison-overlap]
            await agent.close()

    run(body())


def test_without_any_agent_it_ends(tmp_path: Path) -> None:
    async def body() -> None:
        async with proxy(tmp_path) as kit:
            for asks, sni in ((False, "orders.db.test"), (True, "orders.db.test"), (True, "web.test")):
                stream = await connect(kit, sni, asks=asks)
                # Ended or reset, for nobody has read the hello.
                with contextlib.suppress(UnavailableError):
                    async with asyncio.timeout(10):
                        assert await stream.read_some() == b""
                stream.abort()

    run(body())
