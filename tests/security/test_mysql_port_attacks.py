"""Strangers at the proxy's MySQL port, and a proxy that lies about it to an agent (attacks A42, A54, A55)."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import socket
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pkgs.agents.db.engine import HEALTH_USER
from pkgs.agents.db.mysql.engine import MysqlEngine
from pkgs.common.dbwire.mysql import answers, opening
from pkgs.common.dbwire.mysql.packets import frame
from pkgs.common.errors import AccessError, UnavailableError
from pkgs.common.net.limits import ListenerLimits
from pkgs.common.net.peek import PeerEnded
from pkgs.common.net.stream import Stream
from pkgs.common.pki.identity import SystemRole
from pkgs.proxy import limits
from pkgs.proxy.connections.mysql import MysqlDoor
from tests.integration.auth_kit import auth, events
from tests.integration.auth_kit import run as run_auth
from tests.integration.databases_kit import database_server, databases
from tests.integration.mysql_port_kit import (
    LOGIN,
    MYSQL,
    REQUEST,
    greeted,
    mysql_addr,
    packet,
    refused_inside_tls,
)
from tests.integration.proxy_kit import Agent, ProxyKit, proxy, read_line, run
from tests.security.proxy_attack_kit import closed, connect, still_serves
from tests.unit.net.loops import run as run_loop
from tests.unit.net.test_net_clienthello import real_hello

A = "11111111-1111-4111-8111-111111111111"


async def serving(kit: ProxyKit) -> Agent:
    """An agent with the database `orders`."""
    agent = await kit.agent(A, SystemRole.DB)
    kit.cache.database_servers = {"orders": (database_server("orders", A),)}
    return agent


async def passed_on(stream: Stream) -> None:
    """For an honest client that has been greeted."""
    stream.write(REQUEST + real_hello("orders.db.test", []))
    assert json.loads(await read_line(stream))["target"] == "orders"
    stream.abort()


def test_a54_strangers_read_an_error_or_are_closed(tmp_path: Path) -> None:
    async def body() -> None:
        async with proxy(tmp_path, settings=MYSQL) as kit:
            # A login without TLS: with a password of which nobody wants to know.
            stream, _ = await greeted(kit, frame(1, LOGIN))
            sequence, payload = await packet(stream)
            error = answers.parse_error(payload)
            assert (sequence, error.code) == (2, 3159) and "'tsh db config'" in error.message
            assert await closed(stream)
            # No name, and one that is no database's.
            for name in ("", "proxy.test"):
                stream, _ = await greeted(kit)
                error = await refused_inside_tls(stream, name)
                assert error.code == 1105 and "<database>.db.<cluster>" in error.message
                assert await closed(stream)
            stream, _ = await greeted(kit)
            assert "no agent of databases" in (await refused_inside_tls(stream, "orders.db.test")).message
            stream.abort()
            agent = await serving(kit)
            garbage = (
                b"GET / HTTP/1.1\r\n\r\n",
                b"\x16\x03\x01" + bytes(200),
                frame(0, LOGIN),
                b"\xff\xff\xff\x01" + b"x" * 20_000,
                REQUEST + b"GET / HTTP/1.1\r\n\r\n",
                REQUEST + REQUEST,
                REQUEST + b"\x16\x03\x01\x40\x01" + b"\x01" * 20_000,
            )
            for said in garbage:
                stream, _ = await greeted(kit, said)
                assert await closed(stream), said[:20]
            assert not any(agent.asked)
            await passed_on((await greeted(kit))[0])
            await still_serves(kit)
            await agent.close()

    run(body())


def test_a42_a54_the_slow_and_the_many_hold_up_nobody(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "MYSQL_EXPLAIN_S", 0.3)
    few = ListenerLimits(hello_s=4.0, pending_per_source=8)
    monkeypatch.setattr("pkgs.proxy.ports.ListenerLimits", lambda **_: few)

    async def body() -> None:
        async with proxy(tmp_path, settings=MYSQL) as kit:
            agent = await serving(kit)
            # More than a source may keep waiting: its oldest give way, other sources are not touched.
            other, _ = await greeted(kit, source="127.0.0.2")
            silent = [(await greeted(kit))[0] for _ in range(12)]
            for stream in silent[:4]:
                assert await closed(stream)
            await passed_on(other)
            # A byte at a time, a login that never ends, TLS that is asked for and not begun or not finished.
            stuck = [(await greeted(kit, REQUEST[:1]))[0], (await greeted(kit, frame(1, LOGIN)[:-1]))[0]]
            stuck += [
                (await greeted(kit, REQUEST))[0],
                (await greeted(kit, REQUEST + real_hello("x", [])[:9]))[0],
            ]
            for stream in (*silent[4:], *stuck):
                assert await closed(stream)
            # A login without TLS that goes on and on: it has been answered, and is let go.
            endless, _ = await greeted(kit, frame(1, LOGIN))
            with contextlib.suppress(UnavailableError):
                async with asyncio.timeout(10):
                    while True:
                        endless.write(b"x" * 1000)
                        await endless.drain()
                        await asyncio.sleep(0)
            endless.abort()
            await still_serves(kit)
            await agent.close()

    run(body())


def test_a55_the_clients_address_is_the_sockets_or_the_load_balancers(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async def body() -> None:
        async with proxy(tmp_path / "off", settings=MYSQL) as kit:
            stream, _ = await greeted(kit, b"PROXY TCP4 192.0.2.1 192.0.2.2 1 2\r\n" + REQUEST)
            assert await closed(stream)
        async with proxy(tmp_path / "on", settings=MYSQL + "  proxy_protocol: on\n") as kit:
            # Not a word to who comes without.
            sock = await connect(mysql_addr(kit))
            with sock:
                await asyncio.get_running_loop().sock_sendall(sock, REQUEST)
                with contextlib.suppress(ConnectionError):
                    assert await asyncio.get_running_loop().sock_recv(sock, 10) == b""
            stream, _ = await greeted(kit, b"PROXY TCP4 192.0.2.1 192.0.2.2 1234 3306\r\n")
            with caplog.at_level(logging.INFO):
                # There is no agent, which is told in the log.
                assert "no agent" in (await refused_inside_tls(stream, "orders.db.test")).message
            assert [record.addr for record in caplog.records if hasattr(record, "addr")] == ["192.0.2.1"]
            stream.abort()

    run(body())


@pytest.mark.fuzz
@settings(deadline=None)
@given(st.one_of(st.binary(max_size=200), st.binary(max_size=60).map(lambda tail: REQUEST + tail)))
def test_whatever_a_client_says_first_ends_well(said: bytes) -> None:
    async def body() -> None:
        ours, theirs = socket.socketpair()
        with ours, theirs:
            ours.setblocking(False)
            theirs.sendall(said)
            theirs.shutdown(socket.SHUT_WR)
            door = MysqlDoor(databases=None, own_names=(), context=None, version="", log=None)  # type: ignore[arg-type]
            try:
                number = await door.greet(ours)
            except (AccessError, PeerEnded):
                assert not said.startswith(REQUEST)
            else:
                assert number in opening.NUMBERS and opening.asks_for_tls(said[: len(REQUEST)])
                # Nothing behind the request is taken.
                left = ours.recv(1000) if len(said) > len(REQUEST) else b""
                assert left == said[len(REQUEST) :]

    run_loop(body())


def test_a_greeting_that_a_proxy_made_up_opens_nothing(short_tmp: Path) -> None:
    """A client that was greeted for MySQL, says the proxy, at a database that speaks something else: refused
    in MySQL's shape. Whether it was greeted decides nothing else."""

    async def main() -> None:
        async with (
            auth(short_tmp / "auth") as kit,
            databases(kit, short_tmp / "db", engines=[MysqlEngine()]) as db,
        ):
            ann = await kit.user("ann", "dba")
            certs, key = await db.certs(ann)
            for number in (1, opening.NUMBERS[0], 1 << 40):
                stream = await db.dial(certs.tls_cert, key, greeted_as=number)
                stream.write(frame(2, LOGIN))
                sequence, payload = await packet(stream)
                error = answers.parse_error(payload)
                assert (sequence, error.code) == (3, 1045)
                assert error.message == "access to database orders denied"
                assert await closed(stream)
            assert set(db.server.users) <= {HEALTH_USER}
            refused = await events(kit, "db.session.start")
            assert {event["error"] for event in refused} == {
                "the client speaks MySQL, the certificate is for echo"
            }

    run_auth(main)
