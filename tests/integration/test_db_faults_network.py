"""Cables pulled between client, agent and database: packets of one port are dropped, nobody is told."""

from __future__ import annotations

import contextlib
import os
import select
import shutil
import socket
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from pkgs.common.dbwire.mysql.packets import frame
from pkgs.common.dbwire.postgres import frontend
from pkgs.common.dbwire.redis.build import request
from pkgs.common.net import limits as net_limits
from tests.harness.firewall import dropped
from tests.harness.wait import wait_for
from tests.integration.db_site import Site, ask, entered, site

pytestmark = [
    pytest.mark.needs("nft", "psql", "pg_isready", "mariadbd", "mariadb", "redis-server", "redis-cli"),
    pytest.mark.skipif(os.geteuid() != 0, reason="a firewall needs root"),
]
QUESTION = {
    "postgres": frontend.query("select 6 * 7"),
    "mysql": frame(0, b"\3select 6 * 7"),
    "redis": request(b"ECHO", b"42"),
}


@pytest.fixture(scope="module")
def world() -> Iterator[Site]:
    folder = Path(tempfile.mkdtemp(prefix="t-"))
    with site(folder) as made:
        yield made
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """The dead are noticed within seconds instead of a minute."""
    monkeypatch.setattr(net_limits, "KEEPALIVE_IDLE_S", 2)
    monkeypatch.setattr(net_limits, "KEEPALIVE_INTERVAL_S", 1)
    monkeypatch.setattr(net_limits, "UNACKNOWLEDGED_MS", 4_000)


def port_at(world: Site, protocol: str) -> int:
    return {"postgres": world.pg.port, "mysql": world.maria.port, "redis": world.redis.port}[protocol]


def answered(client: socket.socket, protocol: str, within_s: float = 30.0) -> bool:
    client.sendall(QUESTION[protocol])
    client.settimeout(within_s)
    return b"42" in client.recv(4096)


def test_f10_a_database_out_of_reach_for_a_moment_is_not_noticed(world: Site) -> None:
    protocol = "postgres"
    server = port_at(world, protocol)
    with world.port(protocol) as port, entered(protocol, port) as client:
        assert answered(client, protocol)
        with dropped(f"sport {server}", f"dport {server}"):
            client.sendall(QUESTION[protocol])
            assert not select.select([client], [], [], 1.5)[0]
        assert b"42" in client.recv(4096)
    world.end_of(protocol)


@pytest.mark.parametrize(
    ("protocol", "ways"), [("postgres", ("sport", "dport")), ("mysql", ("sport",)), ("redis", ("dport",))]
)
def test_f10_f11_a_database_out_of_reach_ends_the_session(
    world: Site, protocol: str, ways: tuple[str, ...]
) -> None:
    """Both ways or one: the client's connection is ended, the audit log says why; the next session works."""
    server = port_at(world, protocol)
    with world.port(protocol) as port:
        with entered(protocol, port) as client:
            assert answered(client, protocol)
            with dropped(*(f"{way} {server}" for way in ways)):
                client.sendall(QUESTION[protocol])
                client.settimeout(40)
                with contextlib.suppress(ConnectionError):
                    assert b"42" not in client.recv(4096)
                ended = world.end_of(protocol)
        assert "timed out" in str(ended["reason"]).lower(), ended
        assert ask(protocol, port).returncode == 0


@pytest.mark.parametrize("protocol", ["postgres", "mysql"])
def test_f12_a_client_whose_cable_is_pulled_gives_its_place_back(world: Site, protocol: str) -> None:
    """No end of it is ever heard: its connection is found dead, and nothing is left at the server."""
    with world.port(protocol) as port, entered(protocol, port) as client:
        assert answered(client, protocol)
        mine = client.getsockname()[1]
        with dropped(f"sport {mine}", f"dport {mine}"):
            world.end_of(protocol)
            wait_for(lambda: not world.db.service._of_user, what="the user's places to be free")
