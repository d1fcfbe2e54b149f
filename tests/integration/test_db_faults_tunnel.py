"""The network between proxy and agent fails under a database session: packets are dropped, nobody is told.

Auth Service, Database Service with its tunnels, and proxy are the product's, in this process. The proxy has
authorities of its own (see `proxy_kit`), which the agent's tunnels believe; the user's TLS runs to the agent.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import socket
import ssl
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from pkgs.agents.base.tunnel import Tunnels
from pkgs.common.api.tunnel import DialHeader
from pkgs.common.errors import UnavailableError
from pkgs.common.membership.identity import HostIdentity
from pkgs.common.net import limits as net_limits
from pkgs.common.net.handshake import start_tls
from pkgs.common.net.stream import Stream
from pkgs.common.net.tls import client_context
from pkgs.common.pki.identity import SystemRole
from pkgs.common.pki.trust import Trust
from pkgs.proxy import limits as proxy_limits
from tests.harness.firewall import dropped
from tests.integration.auth_kit import Kit, auth, events, run
from tests.integration.databases_kit import DatabaseKit, database_server, databases, line, until
from tests.integration.proxy_kit import ProxyKit, proxy

pytestmark = [
    pytest.mark.needs("nft"),
    pytest.mark.skipif(os.geteuid() != 0, reason="a firewall needs root"),
]
USER_HOST = "127.0.0.3"
"""Where the user is, so that only the agent's packets are dropped."""


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """The dead are noticed within seconds instead of a minute, and the agent dials again at once."""
    monkeypatch.setattr(net_limits, "KEEPALIVE_IDLE_S", 1)
    monkeypatch.setattr(net_limits, "KEEPALIVE_INTERVAL_S", 1)
    monkeypatch.setattr(net_limits, "UNACKNOWLEDGED_MS", 1_500)
    monkeypatch.setattr(proxy_limits, "TUNNEL_PING_S", 0.2)
    for name in ("TUNNEL_SILENT_S", "TUNNEL_STALLED_S"):
        monkeypatch.setattr(proxy_limits, name, 1.5)
    for name, seconds in (("SILENCE_S", 1.5), ("CONNECT_S", 1.0), ("REDIAL_MOST_S", 0.5)):
        monkeypatch.setattr(f"pkgs.agents.base.tunnel.{name}", seconds)


@dataclass
class Membership:
    identity: HostIdentity
    trust: Trust


@dataclass
class World:
    kit: Kit
    db: DatabaseKit
    proxy: ProxyKit
    context: ssl.SSLContext
    """With the user's certificate for the database."""

    @property
    def port(self) -> str:
        return self.proxy.addr.rpartition(":")[2]

    @property
    def is_connected(self) -> bool:
        """Whether the proxy takes the agent for reachable."""
        return self.proxy.service.tunnels.holds(self.db.host_id, SystemRole.DB)

    async def open(self) -> Stream:
        """A user's session with the database. Raises UnavailableError."""
        sock = socket.create_connection(("127.0.0.1", int(self.port)), 20, source_address=(USER_HOST, 0))
        sock.setblocking(False)
        stream = await start_tls(sock, self.context, server_hostname="orders.db.teleport.cluster.local")
        self.db.streams.append(stream)
        stream.write(b"hello alice app\n")
        return stream

    async def is_answered(self, stream: Stream, said: str = "select") -> bool:
        stream.write(f"{said}\n".encode())
        return await line(stream) == f"alice {said}"

    async def works(self) -> None:
        """A new session is served as ever."""
        stream = await self.open()
        assert await line(stream) == "ok"
        assert await self.is_answered(stream)
        stream.abort()
        await until(lambda: not self.db.service._connections, "the session to end")

    async def ended_on_both_sides(self, stream: Stream) -> None:
        """Neither waits for the other for ever, and nothing leads to the agent any more."""
        stream.write(b"anybody there?\n")
        assert await line(stream) == ""
        await until(lambda: not self.db.service._connections, "the agent to notice")
        await until(lambda: not self.is_connected, "the proxy to notice")
        with pytest.raises(UnavailableError):
            await self.open()


async def _no_socket(sock: socket.socket, header: DialHeader) -> None:
    raise AssertionError("every stream is served as it is")


@contextlib.asynccontextmanager
async def world(folder: Path) -> AsyncIterator[World]:
    async with (
        auth(folder / "auth") as kit,
        databases(kit, folder / "db") as db,
        proxy(folder / "proxy") as through,
    ):
        member = Membership(through.authorities.host(db.host_id, SystemRole.DB), through.authorities.trust)
        tunnels = Tunnels(
            member, ["db"], _no_socket, time.time, logging.getLogger("tunnels"), lambda: None,
            db.service._serve_stream, bare=True,
        )  # fmt: skip
        through.cache.database_servers = {"orders": (database_server("orders", db.host_id),)}
        tunnels.configure([through.addr], [])
        certs, key = await db.certs(await kit.user("ann", "dba"))
        context = client_context(roots_pem=kit.roots(), cert_pem=certs.tls_cert, key_pem=key)
        made = World(kit, db, through, context)
        try:
            await until(lambda: made.is_connected, "the tunnel")
            yield made
        finally:
            await tunnels.close()


async def reasons(site: World) -> list[str]:
    """Why sessions ended, in the order of the audit log, when the agent has told all it had to tell."""
    await until(lambda: not site.db.service._member.emitter.pending, "the events to arrive")
    return [str(end.get("reason", "")) for end in await events(site.kit, "db.session.end")]


def test_f10_a_partition_under_a_database_session(short_tmp: Path) -> None:
    """A short one is not noticed. A long one ends the session on both sides; then all is as before. What the
    agent had to tell meanwhile, for the Auth Service was out of reach as well, is told once."""

    async def body() -> None:
        async with world(short_tmp) as site:
            cut = (f"sport {site.port} ip daddr 127.0.0.1", f"dport {site.port} ip saddr 127.0.0.1")
            stream = await site.open()
            assert await line(stream) == "ok"
            with dropped(*cut):
                answer = asyncio.create_task(site.is_answered(stream, "meanwhile"))
                await asyncio.sleep(0.5)
                assert not answer.done()
            assert await answer
            with dropped(*cut, f"sport {site.kit.port}", f"dport {site.kit.port}"):
                await site.ended_on_both_sides(stream)
                assert site.db.service._member.emitter.pending
            await until(lambda: site.is_connected, "the agent to be back")
            await site.works()
            lost, last = await reasons(site)
            assert "timed out" in lost and not last

    run(body)


def test_f11_a_partition_of_one_direction_under_a_database_session(short_tmp: Path) -> None:
    """The agent still sends, and hears nothing: no session and no tunnel stays that leads nowhere."""

    async def body() -> None:
        async with world(short_tmp) as site:
            stream = await site.open()
            assert await line(stream) == "ok"
            with dropped(f"sport {site.port} ip daddr 127.0.0.1"):
                await site.ended_on_both_sides(stream)
            await until(lambda: site.is_connected, "the agent to be back")
            await site.works()
            lost, last = await reasons(site)
            assert "timed out" in lost and not last

    run(body)
