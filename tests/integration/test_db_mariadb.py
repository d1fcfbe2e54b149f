"""Clients and libraries of MySQL through the engine, against a real MariaDB that takes certificates only."""

from __future__ import annotations

import contextlib
import signal
import socket
import struct
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pymysql
import pytest
import sqlalchemy

from pkgs.agents.db.engine import Detail, Failed, Outcome, Statement
from pkgs.agents.db.mysql.engine import MysqlEngine
from pkgs.common.dbwire.mysql import answers, handshake, opening
from pkgs.common.dbwire.mysql.flags import OFFERED, Capability, Command
from pkgs.common.dbwire.mysql.packets import HEADER, frame
from pkgs.common.errors import DeniedError, UnavailableError
from tests.harness.wait import wait_for
from tests.integration.db_kit import Policy, serving
from tests.integration.db_servers import Server, mariadb

pytestmark = pytest.mark.needs("mariadbd", "mariadb-install-db", "mariadb", "mariadb-dump")

USERS = frozenset(("alice", "issued", "guarded", "nobody"))


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with mariadb(tmp_path_factory.mktemp("mariadb")) as running:
        yield running


@pytest.fixture(scope="module")
def engine() -> MysqlEngine:
    return MysqlEngine()


@pytest.fixture
def service(server: Server, engine: MysqlEngine) -> Iterator[tuple[int, Policy]]:
    with serving(engine, server.uri, users=USERS) as running:
        yield running


def client(
    port: int, *arguments: str, user: str = "alice", program: str = "mariadb"
) -> subprocess.CompletedProcess[str]:
    command = (program, "--no-defaults", "-h127.0.0.1", f"-P{port}", f"-u{user}", *arguments)
    return subprocess.run(command, capture_output=True, text=True, timeout=60)


def connect(port: int, **options: object) -> pymysql.Connection:
    return pymysql.connect(host="127.0.0.1", port=port, user="alice", database="shop", **options)


def test_the_client_is_let_in_by_certificate_and_everything_is_told(service: tuple[int, Policy]) -> None:
    port, policy = service
    done = client(port, "--password=ignored", "-N", "-e", "select current_user(), database()", "shop")
    assert (done.stdout, done.returncode) == ("alice@%\tshop\n", 0), done.stderr
    assert client(port, "-N", "-e", "select user()", user="issued").stdout == "issued@127.0.0.1\n"
    policy.settle()
    assert policy.asked[0].user == "alice"
    assert policy.asked[0].database == "shop"
    assert policy.asked[0].agent.startswith("mysql")
    assert policy.facts[:2] == [Statement("select current_user(), database()"), Outcome(1)]
    done = client(port, "-e", "select * from nothing", "shop")
    assert "ERROR 1146 (42S02)" in done.stderr
    policy.settle()
    assert isinstance(policy.facts[-1], Failed)
    assert policy.facts[-1].code == "1146"


def test_refusals_come_in_the_shape_of_mysql(service: tuple[int, Policy]) -> None:
    port, policy = service
    done = client(port, "-e", "select 1", user="mallory")
    assert "ERROR 1045 (28000)" in done.stderr
    assert 'you may not be "mallory"' in done.stderr
    policy.settle()
    assert isinstance(policy.errors[-1], DeniedError)
    done = client(port, "-e", "select 1", user="guarded")
    assert "ERROR 1045 (28000)" in done.stderr
    assert "REQUIRE SUBJECT" in done.stderr
    done = client(port, "-e", "select 1", "nothere", user="issued")
    assert "ERROR 1044 (42000)" in done.stderr
    assert policy.facts == []


def test_a_server_that_is_down_or_silent_is_named(
    engine: MysqlEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pkgs.agents.db.mysql.limits.SERVER_LOGIN_S", 0.5)
    with (
        socket.create_server(("127.0.0.1", 0)) as silent,
        serving(engine, f"127.0.0.1:{silent.getsockname()[1]}") as (port, _),
    ):
        assert "did not answer the agent's login" in client(port, "-e", "select 1").stderr
    with serving(engine, "127.0.0.1:1") as (port, policy):
        assert "ERROR 1105" in client(port, "-e", "select 1").stderr
        policy.settle()
        assert isinstance(policy.errors[-1], UnavailableError)


def test_a_server_without_tls_or_that_slips_in_plain_bytes_is_not_trusted(engine: MysqlEngine) -> None:
    def greeting(flags: Capability) -> bytes:
        return frame(0, handshake.greeting(handshake.Greeting("8.0", 1, b"x" * 20, flags)))

    injected = greeting(OFFERED | Capability.SSL) + frame(2, answers.ok())
    for said, text in ((greeting(OFFERED), "offers no TLS"), (injected, "before TLS")):
        with socket.create_server(("127.0.0.1", 0)) as hostile:

            def answer(hostile: socket.socket = hostile, said: bytes = said) -> None:
                with hostile.accept()[0] as taken:
                    taken.sendall(said)
                    taken.recv(100)

            thread = threading.Thread(target=answer)
            thread.start()
            with serving(engine, f"127.0.0.1:{hostile.getsockname()[1]}") as (port, _):
                assert text in client(port, "-e", "select 1").stderr
            thread.join(10)


def test_files_of_the_client_stay_there_unless_allowed(server: Server, tmp_path: Path) -> None:
    (tmp_path / "parts").write_text("900\tscrew\n901\tnut\n")
    load = f"load data local infile '{tmp_path}/parts' into table parts; select count(*) from parts"
    with serving(MysqlEngine(), server.uri) as (port, policy):
        done = client(port, "--local-infile", "-N", "-e", load, "shop")
        assert done.returncode == 1
        assert "local infile" in done.stderr
    with serving(MysqlEngine(local_files=True), server.uri) as (port, policy):
        done = client(port, "--local-infile", "-N", "-e", load, "shop")
        assert done.stdout == "2\n", done.stderr
        policy.settle()
        assert policy.facts[1] == Outcome(2)


def test_dump_and_restore(service: tuple[int, Policy]) -> None:
    port, _ = service
    client(port, "-e", "create database copied; create database a_copy")
    client(port, "-e", "create table t as select seq, repeat('ö', 100) x from seq_1_to_5000", "copied")
    dumped = client(port, "copied", program="mariadb-dump")
    assert dumped.returncode == 0, dumped.stderr
    restored = subprocess.run(
        ("mariadb", "--no-defaults", "-h127.0.0.1", f"-P{port}", "-ualice", "a_copy"),
        input=dumped.stdout,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert restored.returncode == 0, restored.stderr
    done = client(port, "-N", "-e", "checksum table copied.t, a_copy.t")
    one, other = done.stdout.splitlines()
    assert one.split("\t")[1] == other.split("\t")[1]


def test_pymysql_with_many_rows_and_long_packets(service: tuple[int, Policy]) -> None:
    port, policy = service
    with connect(port) as connection, connection.cursor() as cursor:
        cursor.execute("set global max_allowed_packet = 64*1024*1024")
        cursor.execute("select seq, repeat('x', seq % 300) from seq_1_to_200000")
        assert len(cursor.fetchall()) == 200_000
    with connect(port, max_allowed_packet=64 << 20) as connection, connection.cursor() as cursor:
        text = "y" * (17 << 20)
        cursor.execute("select length(%s), %s", (text, text))
        length, back = cursor.fetchone()
        assert (length, len(back)) == (len(text), len(text))
        with pytest.raises(pymysql.err.ProgrammingError):
            cursor.execute("select from")
        connection.ping(reconnect=False)
        connection.select_db("mysql")
    policy.settle()
    assert Outcome(200_000) in policy.facts
    assert sum(fact.cut for fact in policy.facts if isinstance(fact, Statement)) == 1
    assert Detail("mysql.init_db", (("schema_name", "mysql"),)) in policy.facts


PREPARED = """
import datetime, decimal, sys
import mysql.connector
connection = mysql.connector.connect(
    host="127.0.0.1", port=int(sys.argv[1]), user="alice", password="x", ssl_disabled=True, use_pure=True
)
asked = (1, "zwölf", 3.5, datetime.datetime(2026, 1, 2, 3, 4, 5), None, decimal.Decimal("1.50"))
cursor = connection.cursor(prepared=True)
for _ in range(2):
    cursor.execute("select ?, ?, ?, ?, ?, ?", asked)
    assert cursor.fetchall()[0][:4] == asked[:4]
cursor.close()
connection.close()
"""


def test_prepared_statements_in_the_binary_protocol(service: tuple[int, Policy]) -> None:
    port, policy = service
    # In a process of its own: this library leaves sockets open.
    done = subprocess.run((sys.executable, "-c", PREPARED, str(port)), capture_output=True, timeout=60)
    assert done.returncode == 0, done.stderr
    policy.settle()
    executed = [
        dict(fact.fields)
        for fact in policy.facts
        if isinstance(fact, Detail) and fact.kind == "mysql.statements.execute"
    ]
    assert len(executed) == 2
    assert executed[1]["query"] == "select ?, ?, ?, ?, ?, ?"
    assert executed[1]["parameters"] == ("1", "zwölf", "3.5", "2026-01-02 03:04:05", "NULL", "1.50")


class Raw:
    """A client that speaks packets, with every capability that is offered."""

    def __init__(self, port: int) -> None:
        self.socket = socket.create_connection(("127.0.0.1", port), 20)
        self._file = self.socket.makefile("rb")
        self.packet()
        login = handshake.Response(OFFERED, "alice", b"", "shop", "p")
        self.socket.sendall(frame(1, handshake.response(login)))
        assert self.packet()[0] == 0

    def packet(self) -> bytes:
        return self._file.read(int.from_bytes(self._file.read(4)[:3], "little"))

    def ask(self, command: bytes) -> bytes:
        self.socket.sendall(frame(0, command))
        return self.packet()

    def rows(self, command: bytes) -> int:
        """Packets up to the end of definitions and rows."""
        count, packet = 0, self.ask(command)
        while packet[0] != 0xFE:
            count, packet = count + 1, self.packet()
        return count

    def close(self) -> None:
        self._file.close()
        self.socket.close()


def test_commands_that_libraries_seldom_send(service: tuple[int, Policy]) -> None:
    """With the new end of rows, cursors among them: what comes after each answer is understood."""
    port, policy = service
    with contextlib.closing(Raw(port)) as raw:
        number, columns, parameters = struct.unpack_from(
            "<IHH", raw.ask(b"\x16select seq, ? from seq_1_to_10"), 1
        )
        assert [raw.packet()[:4] for _ in range(columns + parameters)] == [b"\x03def"] * 3
        # With a cursor, the rows wait until they are fetched.
        execute = struct.pack("<BIBI", 0x17, number, 1, 1) + b"\0\1" + struct.pack("<Hi", 3, 7)
        assert raw.rows(execute) == 3
        assert [raw.rows(struct.pack("<BII", 0x1C, number, 4)) for _ in range(3)] == [4, 4, 2]
        assert raw.rows(b"\4parts\0%") == 2
        assert raw.rows(b"\3select 1; select 2, 3") == 3
        while raw.packet()[0] != 0xFE:
            pass
        assert raw.ask(b"\x09").startswith(b"Uptime")
        assert raw.rows(b"\x0a") > 3
        for one in (b"\x1f", b"\x1b\0\0", b"\x0d", b"\x02mysql", b"\x07\2", b"\x0e"):
            assert raw.ask(one)[0] in (0, 0xFE)
        assert raw.ask(b"\x12" + bytes(10))[0] == 0xFF
        assert raw.ask(b"\3begin")[0] == 0
    policy.settle()
    assert policy.errors == []
    assert [fact.rows for fact in policy.facts if isinstance(fact, Outcome)][:5] == [0, 4, 4, 2, 2]
    assert [fact.kind.removeprefix("mysql.") for fact in policy.facts if isinstance(fact, Detail)] == [
        *("statements.prepare", "statements.execute", *["statements.fetch"] * 3),
        *("debug", "init_db", "refresh"),
    ]
    assert policy.facts[-2:] == [Statement("begin"), Outcome(0)]


def test_the_user_cannot_be_changed(service: tuple[int, Policy]) -> None:
    port, policy = service
    with contextlib.closing(connect(port)) as connection:
        connection._execute_command(0x11, b"root\0\0")
        with pytest.raises(pymysql.err.MySQLError, match="log in anew"):
            connection._read_packet()
        policy.settle()


def test_sqlalchemy(service: tuple[int, Policy]) -> None:
    port, _ = service
    made = sqlalchemy.create_engine(f"mysql+pymysql://alice@127.0.0.1:{port}/shop")
    with made.begin() as connection:
        connection.execute(
            sqlalchemy.text("insert into parts values (:id, :name)"), {"id": 1, "name": "bolt"}
        )
    with made.connect() as connection:
        found = connection.execute(sqlalchemy.text("select name from parts where id = 1")).scalar()
    assert found == "bolt"
    assert "parts" in sqlalchemy.inspect(made).get_table_names()
    assert made.dialect.is_mariadb
    made.dispose()


def test_passwords_are_not_told(service: tuple[int, Policy]) -> None:
    port, policy = service
    sql = "create user new@'%' identified by 's3cret'; set password for new@'%' = password('s3cret');"
    client(port, "-f", "-e", sql + "create user x identified by 's3cret' foo")
    policy.settle()
    assert len(policy.facts) == 6
    assert any("identified by '***'" in repr(fact) for fact in policy.facts)
    assert "s3cret" not in repr(policy.facts)


def test_control_c_ends_the_query_of_this_session(service: tuple[int, Policy]) -> None:
    port, policy = service
    running = subprocess.Popen(
        ("mariadb", "--no-defaults", "-h127.0.0.1", f"-P{port}", "-ualice", "-e", "select sleep(60)"),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )
    wait_for(lambda: Statement("select sleep(60)") in policy.facts, what="the query to run")
    running.send_signal(signal.SIGINT)
    running.communicate(timeout=30)
    policy.settle()
    assert any(isinstance(fact, Statement) and "KILL" in fact.text for fact in policy.facts)
    assert any(isinstance(fact, Failed) and fact.code == "1317" for fact in policy.facts)


@pytest.mark.parametrize("end", ["locked", "vanished"])
def test_a_query_that_nobody_waits_for_is_ended_at_the_server(
    service: tuple[int, Policy], monkeypatch: pytest.MonkeyPatch, end: str
) -> None:
    monkeypatch.setattr("pkgs.agents.db.limits.HALF_CLOSED_S", 0.2)
    port, policy = service
    text = f"select sleep(300), '{end}'"
    running = subprocess.Popen(
        ("mariadb", "--no-defaults", "-h127.0.0.1", f"-P{port}", "-ualice", "-e", text),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    wait_for(lambda: Statement(text) in policy.facts, what="the query to run")
    if end == "locked":
        policy.end_last("the user is locked")
    else:
        running.kill()
    running.wait(30)
    policy.settle()
    assert text not in client(port, "-e", "show full processlist").stdout


def test_a_session_that_is_ended_reads_why(service: tuple[int, Policy]) -> None:
    port, policy = service
    with contextlib.closing(connect(port)) as connection, connection.cursor() as cursor:
        policy.end_last("the user is locked")
        policy.settle()
        with pytest.raises(pymysql.err.MySQLError, match="the user is locked"):
            cursor.execute("select 1")


def test_clients_that_the_proxy_has_greeted(server: Server, engine: MysqlEngine) -> None:
    """They go on with their login. A proxy that gives one number to two of them, or one of a server's, makes
    that number mean less, and nothing else."""

    def packet(sock: socket.socket) -> tuple[int, bytes]:
        header = sock.recv(HEADER, socket.MSG_WAITALL)
        return header[3], sock.recv(int.from_bytes(header[:3], "little"), socket.MSG_WAITALL)

    def log_in(port: int) -> socket.socket:
        sock = socket.create_connection(("127.0.0.1", port), 20)
        flags = OFFERED & ~Capability.CONNECT_WITH_DB | Capability.SSL
        sock.sendall(frame(2, handshake.response(handshake.Response(flags, "alice"))))
        sequence, payload = packet(sock)
        assert (sequence, payload[0]) == (3, answers.OK), payload
        return sock

    def query(sock: socket.socket, text: str) -> bytes:
        sock.sendall(frame(0, bytes((Command.QUERY,)) + text.encode()))
        return packet(sock)[1]

    number = opening.NUMBERS[7]
    with serving(engine, server.uri, greeted_as=number) as (port, policy):
        with log_in(port) as first, log_in(port) as second:
            assert query(second, f"kill {number}")[0] == answers.OK
            while first.recv(100):
                pass
            assert query(second, "do 1")[0] == answers.OK
        policy.settle()
        assert {error.message for error in policy.errors} <= {"the connection was lost"}
    with serving(engine, server.uri, greeted_as=5) as (port, policy), log_in(port) as only:
        # The server's own number 5, which nobody has any more.
        assert answers.parse_error(query(only, "kill 5")).code == 1094
