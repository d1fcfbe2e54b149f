"""Bad databases and bad luck, with real servers and clients: what the user reads, what the audit log holds,
what is left behind."""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import ssl
import struct
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from pkgs.agents.db import limits
from pkgs.common.api.resources import PutResource
from pkgs.common.dbwire.mysql.packets import frame
from pkgs.common.dbwire.postgres import frontend
from pkgs.common.dbwire.redis.build import request
from pkgs.common.errors import AccessError, UnavailableError
from pkgs.common.net.tls import server_context
from pkgs.common.resources.kinds import HealthCheckConfig
from pkgs.common.resources.kinds.infrastructure import HealthCheckSpec, HealthMatch
from pkgs.common.resources.metadata import Metadata
from pkgs.common.resources.role import LabelValues
from tests.harness.hostile_db import Script, before_tls, hold, hostile, logged_in, within_tls
from tests.harness.ports import free_port
from tests.harness.wait import wait_for
from tests.integration.db_site import Site, ask, entered, mariadb, psql, redis_cli, site
from tests.integration.tctl_kit import tctl
from tests.unit.net import certs

pytestmark = pytest.mark.needs("psql", "pg_isready", "mariadbd", "mariadb", "redis-server", "redis-cli")
each_protocol = pytest.mark.parametrize("protocol", ["postgres", "mysql", "redis"])


@pytest.fixture(scope="module")
def world() -> Iterator[Site]:
    folder = Path(tempfile.mkdtemp(prefix="t-"))
    with site(folder) as made:
        yield made
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "SERVER_DIAL_S", 1.0)
    monkeypatch.setattr("pkgs.agents.db.postgres.limits.LOGIN_S", 2.0)
    monkeypatch.setattr("pkgs.agents.db.mysql.limits.SERVER_LOGIN_S", 2.0)
    monkeypatch.setattr("pkgs.agents.db.redis.limits.SERVER_LOGIN_S", 2.0)


def tls(world: Site, *, stranger: bool = False, distrusts: bool = False) -> ssl.SSLContext:
    """A server's of the cluster, or one with a strange certificate, or that believes strange clients."""
    mine = certs.pair("127.0.0.1")
    return server_context(
        cert_pem=mine.cert if stranger else world.files["server.pem"],
        key_pem=mine.key if stranger else world.files["server.key"],
        client_roots_pem=certs.roots() if distrusts else world.files["ca.pem"],
        require_client_cert=True,
    )


def garbage(sock: socket.socket) -> None:
    sock.sendall(b"\xff\0garbage\r\n" * 50)
    hold(sock)


def leave(sock: socket.socket) -> None:
    pass


def silent_at_tls(protocol: str) -> Script:
    def go(sock: socket.socket) -> None:
        before_tls(protocol, sock)
        hold(sock)

    return go


@pytest.mark.usefixtures("impatient")
@each_protocol
def test_f15_a66_what_is_read_of_a_server_that_lets_nobody_in(world: Site, protocol: str) -> None:
    """Down, silent at each step, no database, of another authority, with another one for its clients.

    The client's own error names the database and says what to do; in the audit log the session has its end
    with the reason; nothing is left at the agent, nor a connection at the server."""
    late, spoken, closed = "not answer the agent's", "does not speak", "closed the connection"
    cases: dict[str, tuple[Script | None, str, str]] = {
        "down": (None, "the agent cannot connect to", "check that it runs"),
        "silent": (hold, late, "check that its server is well"),
        "silent-tls": (silent_at_tls(protocol), late, "check that its server is well"),
        "silent-login": (within_tls(protocol, tls(world), hold), late, "check that its server is well"),
        "garbage": (garbage, spoken if protocol != "redis" else "refused the agent's TLS", ""),
        "garbage-login": (within_tls(protocol, tls(world), garbage), spoken, "leads to it"),
        "closes": (leave, closed, "its log says why"),
        "closes-login": (within_tls(protocol, tls(world), leave), closed, "its log says why"),
        "stranger": (within_tls(protocol, tls(world, stranger=True), hold), "does not trust", "auth sign"),
        "distrusts": (
            within_tls(protocol, tls(world, distrusts=True), hold),
            "the agent's",
            "the clients' authority",
        ),
    }
    for case, (script, text, hint) in cases.items():
        name = f"{case}-{protocol}"
        with hostile(script or hold) as server:
            world.add(name, protocol, server.port if script else free_port())
            with world.port(name, protocol) as port:
                done = ask(protocol, port)
            read = done.stdout + done.stderr
            assert f"database {name}" in read, read
            assert text in read, (name, read)
            assert hint in read, (name, read)
            assert text in str(world.end_of(name)["reason"])
            wait_for(server.idle, what="the connections to end")
        world.remove(name)
    with world.port(protocol) as port:
        assert ask(protocol, port).returncode == 0


@each_protocol
def test_a66_a_server_that_breaks_the_protocol_in_a_session(world: Site, protocol: str) -> None:
    said = {"postgres": b"\xff" * 50, "mysql": b"\0\0\0\1", "redis": b"HTTP/1.1 400\r\n"}[protocol]

    def script(sock: socket.socket) -> None:
        sock.recv(4096)
        sock.sendall(said)
        hold(sock)

    name = f"broken-{protocol}"
    with hostile(logged_in(protocol, tls(world), script)) as server:
        world.add(name, protocol, server.port)
        with world.port(name, protocol) as port:
            done = ask(protocol, port)
        assert "the server broke the protocol" in done.stdout + done.stderr, done
        sid = world.end_of(name)["sid"]
        broken = [event for event in world.events("db.session.malformed_packet") if event["sid"] == sid]
        assert [(event["said_by"], event["size"]) for event in broken] == [("server", len(said))]
        wait_for(server.idle, what="the connection to end")
    world.remove(name)


# --- clients that vanish


def there(world: Site, protocol: str, what: str) -> bool:
    """Whether the server runs this statement for somebody."""
    match protocol:
        case "postgres":
            sql = "select count(*) from pg_stat_activity where usename = 'alice' and query ilike '%{}%'"
            return world.pg.admin(sql.format(what)).strip() != "0"
        case "mysql":
            command = ("mariadb", "--no-defaults", f"-S{world.maria.folder}/mariadb.sock", "-uroot")
            shown = subprocess.run((*command, "-e", "show full processlist"), capture_output=True, timeout=60)
            return what.encode() in shown.stdout.lower()
        case _:
            with world.port("redis", beside=True) as port:
                listed = subprocess.run(redis_cli(port, "client", "list"), capture_output=True, timeout=60)
            return f"cmd={what}".encode() in listed.stdout


BUSY = {
    "postgres": (psql, ("-c", "select pg_sleep(300)"), "pg_sleep"),
    "mysql": (mariadb, ("-e", "select sleep(300)"), "select sleep"),
    "redis": (redis_cli, ("blpop", "nothing", "300"), "blpop"),
}


@each_protocol
def test_f12_a_client_that_is_killed_leaves_nothing_running(
    world: Site, protocol: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "HALF_CLOSED_S", 1.0)
    command, arguments, what = BUSY[protocol]
    with world.port(protocol) as port:
        client = subprocess.Popen(
            command(port, *arguments), stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL
        )
        try:
            wait_for(lambda: there(world, protocol, what), what="the statement to run")
        finally:
            client.kill()
            client.wait(10)
        wait_for(lambda: not there(world, protocol, what), what="the statement to be ended", deadline_s=30)
        world.end_of(protocol)


COPIES = ("copy customers(id, name) from stdin", "copy (select generate_series(1, 100000000)) to stdout")


@pytest.mark.parametrize("copy", COPIES, ids=["in", "out"])
def test_f12_a_client_that_vanishes_in_the_middle_of_a_copy(world: Site, copy: str) -> None:
    """The server has no session of it any more, and keeps nothing of what was half sent."""
    with world.port("postgres") as port:
        client = subprocess.Popen(
            psql(port, "-c", f"\\{copy}" if "stdin" in copy else copy),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        assert client.stdin is not None and client.stdout is not None
        try:
            if "stdin" in copy:
                client.stdin.write(b"".join(b"%d\thalf\n" % number for number in range(1000, 200_000)))
                client.stdin.flush()
            else:
                assert client.stdout.read(1 << 16)
            wait_for(lambda: there(world, "postgres", "copy "), what="the copy")
        finally:
            client.kill()
            client.wait(10)
            client.stdin.close()
            client.stdout.close()
        wait_for(lambda: not there(world, "postgres", "copy "), what="its end", deadline_s=30)
        ended = world.end_of("postgres")
        assert (int(str(ended["rx"])) if "stdin" in copy else int(str(ended["tx"]))) > 1 << 16
    assert world.pg.admin("select count(*) from customers where name = 'half'").strip() == "0"


def read_all(client: socket.socket) -> bytes:
    got = b""
    with contextlib.suppress(ConnectionError):
        while part := client.recv(1 << 20):
            got += part
    return got


@each_protocol
def test_f13_what_a_server_says_after_the_clients_end_is_delivered(world: Site, protocol: str) -> None:
    said = {
        "postgres": frontend.query("select pg_sleep(1); select 'the last ' || 'word'"),
        "mysql": frame(0, b"\3select concat('the last ', 'word'), sleep(1)"),
        "redis": request(b"ECHO", b"the last word"),
    }[protocol]
    with world.port(protocol) as port, entered(protocol, port) as client:
        client.sendall(said)
        client.shutdown(socket.SHUT_WR)
        assert b"the last word" in read_all(client)
    world.end_of(protocol)


# --- sizes


def resident() -> int:
    """Of this process, in which the agent runs."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


ENDLESS = {
    "postgres": frontend.query("select repeat('x', 1000), generate_series(1, 100000000)"),
    "mysql": frame(0, b"\3select repeat('x', 1000) from seq_1_to_100000000"),
    "redis": request(b"SETRANGE", b"long", b"256000000", b"x") + request(b"GET", b"long"),
}
MEGABYTE = 1 << 20


@each_protocol
def test_f14_a66_endless_rows_to_a_slow_reader_take_no_memory_and_hold_up_nobody(
    world: Site, protocol: str
) -> None:
    with world.port(protocol) as port:
        with entered(protocol, port) as slow, entered(protocol, port) as fast:
            before, most, count = resident(), 0, 0
            slow.sendall(ENDLESS[protocol])
            assert slow.recv(1000)
            fast.sendall(ENDLESS[protocol])
            while count < 200 * MEGABYTE:
                got = len(fast.recv(MEGABYTE))
                assert got
                count += got
                if count % 64 == 0:
                    slow.recv(1000)
                most = max(most, resident())
            print(f"{protocol}: {(most - before) / MEGABYTE:.1f} MiB more")
            assert most - before < 32 * MEGABYTE
        world.end_of(protocol, 2)


@each_protocol
def test_a66_a_gigabyte_of_query_is_refused_in_bounded_memory(world: Site, protocol: str) -> None:
    """By the agent for PostgreSQL, by the servers themselves for the others, in whose protocols it passes in
    parts."""
    head = {
        "postgres": b"Q" + struct.pack(">I", (1 << 30) + 4),
        "mysql": b"",
        "redis": b"*3\r\n$3\r\nSET\r\n$1\r\na\r\n$%d\r\n" % (1 << 30),
    }[protocol]
    with world.port(protocol) as port:
        before, most = resident(), 0
        with entered(protocol, port) as client, contextlib.suppress(ConnectionError):
            client.sendall(head)
            for number in range(64):
                if protocol == "mysql":
                    client.sendall(b"\xff\xff\xff" + bytes((number,)) + (b"" if number else b"\3select '"))
                    client.sendall(b"x" * (0xFFFFFF - (0 if number else 9)))
                else:
                    client.sendall(b"x" * (1 << 24))
                most = max(most, resident())
            if protocol == "postgres":
                assert b"longer than 256 MiB" in client.recv(4096)
        print(f"{protocol}: {(most - before) / MEGABYTE:.1f} MiB more")
        assert most - before < 64 * MEGABYTE
        sid = world.end_of(protocol)["sid"]
        told = [event for event in world.events("db.session.query") if event["sid"] == sid]
        # Redis never had the whole of it: nothing but the login was said.
        assert [event.get("truncated") for event in told] == [None if protocol == "redis" else True]
        assert all(len(str(event["db_query"])) <= 64 * 1024 for event in told)
    with world.port(protocol) as port:
        assert ask(protocol, port).returncode == 0


# --- certificates


@each_protocol
def test_a26_a_certificate_for_one_database_at_the_name_of_another(world: Site, protocol: str) -> None:
    """There or not: the real client reads the same."""
    other = "mysql" if protocol == "postgres" else "postgres"
    for name in (other, "nothing"):
        with world.port(protocol, at=name) as port:
            done = ask(protocol, port)
        assert f"access to database {name} denied" in done.stdout + done.stderr, done

        def refused(name: str = name) -> bool:
            starts = world.events("db.session.start")
            return any((start["db_service"], start["code"]) == (name, "TDB00W") for start in starts)

        wait_for(refused, what="the refusal to be audited")


def test_a22_certificates_of_somebody_else_end_in_the_handshake(world: Site) -> None:
    """Of another authority, of a host of the cluster, and none at all; the agent serves on."""
    mine, host = certs.pair("mallory"), world.do(world.kit.join())

    async def read(cert_pem: str | None, key_pem: bytes | None) -> str:
        stream = await world.db.dial(cert_pem, key_pem, "redis")  # type: ignore[arg-type]
        try:
            return (await stream.read_some()).decode()
        finally:
            stream.abort()

    shown = [(mine.cert, mine.key), (host.certs.tls_cert, host.tls_key.private_pem), (None, None)]
    for cert_pem, key_pem in shown:
        with pytest.raises(AccessError):
            assert world.do(read(cert_pem, key_pem)) == ""
            raise UnavailableError("closed without a word")
    assert {start["user"] for start in world.events("db.session.start")} == {"ann"}
    with world.port("redis") as port:
        assert ask("redis", port).returncode == 0


def test_a_database_is_found_unhealthy_while_a_session_goes_on(world: Site) -> None:
    """And healthy again, when it comes back: `tctl db ls` shows it."""

    def answering(sock: socket.socket) -> None:
        while said := sock.recv(4096):
            sock.sendall(b"+PONG\r\n" if b"PING" in said else b"+OK\r\n")

    match = HealthMatch(db_labels=[LabelValues(name="env", values=["dynamic"])])
    spec = HealthCheckSpec(interval="1s", timeout="1s", healthy_threshold=1, match=match)
    config = HealthCheckConfig(metadata=Metadata(name="often"), spec=spec)
    world.do(world.kit.admin.call(PutResource(resource=config)))

    def shown(status: str) -> bool:
        return f" {status} " in world.do(tctl(world.kit, "db", "ls", "--search=flips")).out

    script = within_tls("redis", tls(world), answering)
    with hostile(script) as server:
        world.add("flips", "redis", server.port)
        wait_for(lambda: shown("healthy"), what="the database to be healthy", deadline_s=30)
        with world.port("flips", "redis") as port, entered("redis", port) as client:
            server.take_no_more()
            wait_for(lambda: shown("unhealthy"), what="the database to be unhealthy", deadline_s=30)
            client.sendall(request(b"SET", b"a", b"1"))
            assert client.recv(100) == b"+OK\r\n"
            assert "cannot connect to database flips" in ask("redis", port).stderr
    with hostile(script) as server:
        world.add("flips", "redis", server.port)
        wait_for(lambda: shown("healthy"), what="the database to be healthy again", deadline_s=30)
    world.remove("flips")
