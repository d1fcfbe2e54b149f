"""Attacks on database sessions by names (A26) and by hostile database servers (A66, F15): MySQL and Redis."""

from __future__ import annotations

import contextlib
import os
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from pkgs.agents.db.clickhouse.engine import ClickhouseEngine
from pkgs.agents.db.engine import Engine
from pkgs.agents.db.mysql.engine import MysqlEngine
from pkgs.agents.db.redis.engine import RedisEngine
from pkgs.common.dbwire.mysql import answers, handshake
from pkgs.common.dbwire.mysql.flags import OFFERED, Capability
from pkgs.common.dbwire.mysql.packets import frame
from pkgs.common.dbwire.redis.build import request
from pkgs.common.errors import DeniedError, ProtocolError
from pkgs.common.resources.role import DbConditions as Restrictions
from pkgs.common.resources.role import DbMask
from tests.integration.db_kit import Policy, serving
from tests.unit.net import certs


@pytest.fixture(autouse=True)
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Hostile servers answer nobody who would end their sessions."""
    monkeypatch.setattr("pkgs.agents.db.mysql.limits.KILL_S", 0.2)


Script = Callable[[ssl.SSLSocket], None]
CHUNK = 1 << 20


def mysql_login(user: str = "alice", database: str = "") -> bytes:
    flags = OFFERED if database else OFFERED & ~Capability.CONNECT_WITH_DB
    return frame(1, handshake.response(handshake.Response(flags, user, b"x", database, "p")))


def redis_login(user: str = "alice", database: str = "") -> bytes:
    return request(b"AUTH", user.encode(), b"x")


@contextlib.contextmanager
def hostile(script: Script, *, mysql: bool, heard: list[bytes] | None = None) -> Iterator[str]:
    """The address of a server that lets everybody in and then does as its script says, once. `heard` gets
    the login."""

    def serve() -> None:
        with contextlib.suppress(OSError), listener.accept()[0] as plain:
            if mysql:
                greeting = handshake.Greeting("8.0", 1, b"x" * 20, OFFERED | Capability.SSL)
                plain.sendall(frame(0, handshake.greeting(greeting)))
                plain.recv(36, socket.MSG_WAITALL)
            with context.wrap_socket(plain, server_side=True) as inside:
                inside.settimeout(30)
                login = inside.recv(4096)
                if heard is not None:
                    heard.append(login)
                inside.sendall(frame(3, answers.ok()) if mysql else b"+OK\r\n")
                script(inside)

    context = certs.server(mutual=True)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield f"127.0.0.1:{listener.getsockname()[1]}"
        finally:
            with contextlib.suppress(OSError):
                listener.shutdown(socket.SHUT_RDWR)
            thread.join(30)
            assert not thread.is_alive()


def dial(port: int) -> socket.socket:
    return socket.create_connection(("127.0.0.1", port), 30)


def read_all(client: socket.socket, at_most: int = 1 << 30) -> int:
    count = 0
    with contextlib.suppress(ConnectionError):
        while count < at_most and (got := client.recv(CHUNK)):
            count += len(got)
    return count


def resident() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


SIDES = {"mysql": (MysqlEngine, mysql_login, True), "redis": (RedisEngine, redis_login, False)}
each_protocol = pytest.mark.parametrize("protocol", SIDES)


def enter(client: socket.socket, protocol: str, **login: str) -> None:
    _, said, mysql = SIDES[protocol]
    if mysql:
        client.recv(4096)
    client.sendall(said(**login))


@contextlib.contextmanager
def asking(protocol: str, script: Script) -> Iterator[tuple[socket.socket, Policy]]:
    """A client that has logged in and asked its hostile server something."""
    engine, _, mysql = SIDES[protocol]
    with (
        hostile(script, mysql=mysql) as uri,
        serving(engine(), uri) as (port, policy),
        dial(port) as client,
    ):
        enter(client, protocol)
        client.recv(4096)
        client.sendall(frame(0, b"\3select 1") if mysql else request(b"GET", b"a"))
        yield client, policy


NAMES = (
    "Alice",
    "ALICE",
    "alice ",
    " alice",
    "alice'",
    "'alice'",
    "`alice`",
    "alíce",
    "alice\u0301",
    "alice\n",
)


@each_protocol
@pytest.mark.parametrize("name", NAMES)
def test_a26_a_user_is_asked_for_letter_by_letter(protocol: str, name: str) -> None:
    """And nothing is said to the server when the answer is no: there is none here."""
    engine: Engine = SIDES[protocol][0]()
    with serving(engine, "127.0.0.1:1") as (port, policy), dial(port) as client:
        enter(client, protocol, user=name)
        read_all(client)
        policy.settle()
    assert policy.asked[0].user == name
    assert isinstance(policy.errors[0], DeniedError)


MASKED = Restrictions(mask=(DbMask(column="email"),), rows_max=9)
CANNOT = "your roles restrict this session by db.mask, db.rows_max, which is not possible with "


@pytest.mark.parametrize(
    ("engine", "login", "shape"),
    [
        (MysqlEngine(), mysql_login(), b"\xff\x15\x04#28000" + CANNOT.encode() + b"mysql"),
        (RedisEngine(), redis_login(), b"-NOPERM " + CANNOT.encode() + b"redis"),
        (
            ClickhouseEngine(),
            b"GET /?query=select+1 HTTP/1.1\r\nHost: localhost\r\n\r\n",
            b"Code: 516. DB::Exception: " + CANNOT.encode() + b"clickhouse-http",
        ),
    ],
    ids=["mysql", "redis", "clickhouse"],
)
def test_restrictions_that_cannot_be_held_refuse_the_session(
    engine: Engine, login: bytes, shape: bytes
) -> None:
    """In the shape of the protocol's errors; and nothing is said to the server: there is none here."""
    with serving(engine, "127.0.0.1:1", restrictions=MASKED) as (port, policy), dial(port) as client:
        if isinstance(engine, MysqlEngine):
            client.recv(4096)
        client.sendall(login)
        said = b""
        with contextlib.suppress(ConnectionError):
            while got := client.recv(CHUNK):
                said += got
        assert shape in said
        policy.settle()
    assert isinstance(policy.errors[0], DeniedError)


def test_a26_a_database_name_is_a_field_and_no_text() -> None:
    name = "shop host=evil sslmode=disable`; drop"
    heard = []
    with (
        hostile(lambda inside: None, mysql=True, heard=heard) as uri,
        serving(MysqlEngine(), uri) as (port, policy),
        dial(port) as client,
    ):
        enter(client, "mysql", database=name)
        read_all(client)
        policy.settle()
    assert policy.asked[0].database == name
    assert handshake.parse_response(heard[0][4:]).database == name


@each_protocol
def test_a66_answers_without_end_take_no_memory(protocol: str) -> None:
    mysql = protocol == "mysql"
    stop = threading.Event()

    def script(inside: ssl.SSLSocket) -> None:
        inside.recv(4096)
        inside.sendall(frame(1, b"\1") + frame(2, b"\3def") if mysql else b"*2\r\n$900000000000\r\n")
        endless = b"\xff\xff\xff\x05" + b"\x03" * 0xFFFFFF if mysql else b"x" * (16 * CHUNK)
        while not stop.is_set():
            inside.sendall(endless)

    with asking(protocol, script) as (client, policy):
        read_all(client, 16 * CHUNK)
        before = resident()
        assert read_all(client, 128 * CHUNK) >= 128 * CHUNK
        assert resident() - before < 48 * CHUNK
        stop.set()
        client.close()
        policy.settle()


HOSTILE = {
    "mysql": [
        *(b"\0\0\0\0", frame(1, b"\0"), frame(1, b"\xfe\1"), frame(1, b"\xfb/etc/passwd")),
        *(frame(1, answers.ok()) * 2, frame(1, b"\1") + frame(2, b"")),
    ],
    "redis": [b"HTTP/1.1 400\r\n", b"*1\r\n" * 99, b"$-7\r\n", b"+" + b"x" * 70_000, b"\0" * 70_000],
}


@each_protocol
def test_a66_a_server_that_speaks_something_else_ends_its_session(protocol: str) -> None:
    for said in HOSTILE[protocol]:

        def script(inside: ssl.SSLSocket, said: bytes = said) -> None:
            inside.recv(4096)
            inside.sendall(said)
            with contextlib.suppress(OSError):
                inside.recv(4096)

        with asking(protocol, script) as (client, policy):
            read_all(client)
            policy.settle()
            assert_ended_by_protocol(policy, said)


def assert_ended_by_protocol(policy: Policy, said: bytes) -> None:
    assert [type(error) for error in policy.errors] == [ProtocolError], (said, policy.errors)


def test_a66_a_server_cannot_ask_for_a_file_of_the_client() -> None:
    def script(inside: ssl.SSLSocket) -> None:
        inside.recv(4096)
        inside.sendall(frame(1, b"\xfb/etc/passwd"))
        with contextlib.suppress(OSError):
            inside.recv(4096)

    with asking("mysql", script) as (client, policy):
        got = b""
        while part := client.recv(4096):
            got += part
        assert b"passwd" not in got
        assert b"not allowed" in got
        policy.settle()


@each_protocol
def test_f15_a_server_that_takes_a_login_and_never_answers_is_named(
    protocol: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(f"pkgs.agents.db.{protocol}.limits.SERVER_LOGIN_S", 1.0)
    silence = threading.Event()
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            with listener.accept()[0]:
                silence.wait(30)

        thread = threading.Thread(target=serve)
        thread.start()
        uri = f"127.0.0.1:{listener.getsockname()[1]}"
        with serving(SIDES[protocol][0](), uri) as (port, policy), dial(port) as client:
            enter(client, protocol)
            assert b"database db did not answer the agent's login" in client.recv(4096)
            policy.settle()
        silence.set()
        thread.join(10)
