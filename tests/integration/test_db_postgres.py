"""The Database Service in front of a real PostgreSQL, with the clients that people use."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import struct
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest
import sqlalchemy as sa

from pkgs.agents.db.engine import Detail, Fact, Failed, Malformed, Outcome, Statement
from pkgs.common.dbwire.postgres import backend, frontend, startup
from pkgs.common.dbwire.postgres.startup import CancelRequest, EncryptionRequest, Startup
from pkgs.common.errors import DeniedError, ProtocolError, TrustError, UnavailableError
from pkgs.common.resources.role import UNRESTRICTED
from tests.harness.clients import stop
from tests.harness.ports import free_port
from tests.harness.wait import wait_for
from tests.integration.postgres_kit import Server, Service, postgres, serving
from tests.unit.net import certs

pytestmark = pytest.mark.needs("psql", "pg_isready")


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with postgres() as running:
        yield running


@pytest.fixture(scope="module")
def running(server: Server) -> Iterator[Service]:
    with serving(f"127.0.0.1:{server.port}") as service:
        yield service


@pytest.fixture
def service(running: Service) -> Iterator[Service]:
    running.forget()
    yield running
    running.policy = UNRESTRICTED
    running.settle()


@pytest.fixture(scope="module")
def identity(tmp_path_factory: pytest.TempPathFactory) -> dict[str, object]:
    """What `tsh db login` writes: the user's certificate, its key, and whom to trust."""
    folder = tmp_path_factory.mktemp("identity")
    mine = certs.pair("user.test")
    for name, text in (("user.pem", mine.cert), ("user.key", mine.key.decode()), ("ca.pem", certs.roots())):
        (folder / name).touch(0o600)
        (folder / name).write_text(text)
    return {
        "sslmode": "verify-ca",
        "sslrootcert": folder / "ca.pem",
        "sslcert": folder / "user.pem",
        "sslkey": folder / "user.key",
    }


def psql(service: Service, *args: str, **more: object) -> subprocess.CompletedProcess[str]:
    command = ("psql", "-XAt", service.dsn(**{"sslmode": "disable", **more}), *args)
    return subprocess.run(command, capture_output=True, text=True, timeout=60)


def statements(service: Service) -> list[str]:
    return [fact.text for fact in service.facts if isinstance(fact, Statement)]


def fields(facts: list[Fact], kind: str) -> list[dict[str, object]]:
    return [dict(fact.fields) for fact in facts if isinstance(fact, Detail) and fact.kind == kind]


def test_psql_through_the_tunnel_and_with_the_users_own_certificate(
    service: Service, identity: dict[str, object]
) -> None:
    for how in ({}, identity):
        service.forget()
        done = psql(service, "-c", "SELECT current_user, 6 * 7", "-c", "SELECT 1/0", **how)
        assert done.stdout == "alice|42\n"
        assert "division by zero" in done.stderr and done.returncode == 1
        service.settle()
        assert service.facts == [
            Statement("SELECT current_user, 6 * 7"),
            Outcome(1),
            Statement("SELECT 1/0"),
            Failed("division by zero", "22012"),
            Outcome(0, success=False),
        ]
        assert [(asked.user, asked.database, asked.agent) for asked in service.asked] == [
            ("alice", "shop", "psql")
        ]
    prefer = psql(service, "-c", "SELECT 1", sslmode="disable", gssencmode="prefer")
    assert prefer.returncode == 0


def test_meta_commands_copy_and_server_settings_reach_psql(service: Service, tmp_path: Path) -> None:
    done = psql(service, "-c", "\\d customers", "-c", "\\encoding", "-c", "\\echo :SERVER_VERSION_NUM")
    assert "email|text" in done.stdout and "UTF8" in done.stdout and "15" in done.stdout
    out = tmp_path / "customers.csv"
    done = psql(
        service,
        *("-c", f"\\copy customers TO {out} CSV", "-c", "CREATE TEMP TABLE again (LIKE customers)"),
        *("-c", f"\\copy again FROM {out} CSV", "-c", "SELECT count(*) FROM again"),
    )
    assert done.stdout.endswith("COPY 100\n100\n"), done
    service.settle()
    assert Outcome(100) in service.facts


def test_refusals_are_errors_that_say_what_to_do(service: Service) -> None:
    eve = psql(service, "-c", "SELECT 1", user="eve")
    assert 'FATAL:  you may not be "eve"' in eve.stderr
    quoted = psql(service, "-c", "SELECT 1", user="Alice")
    assert 'you may not be "Alice"' in quoted.stderr
    elsewhere = psql(service, "-c", "SELECT 1", dbname="template1")
    assert 'in "template1"' in elsewhere.stderr
    password = psql(service, "-c", "SELECT 1", user="guarded")
    assert "asks for a password by SCRAM" in password.stderr and "HINT:" in password.stderr
    unknown = psql(service, "-c", "SELECT 1", user="nobody")
    assert 'FATAL:  role "nobody" does not exist' in unknown.stderr
    copied = subprocess.run(
        ("psql", "-X", service.dsn(sslmode="disable", replication="true"), "-c", "IDENTIFY_SYSTEM"),
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert "replication connections are not served" in copied.stderr
    service.settle()
    kinds = [type(error) for error in service.errors]
    assert kinds[:4] == [DeniedError, DeniedError, DeniedError, TrustError]
    assert issubclass(kinds[4], UnavailableError) and kinds[5] is DeniedError


def test_names_are_fields_and_never_become_connection_parameters(service: Service) -> None:
    """Attack A26."""
    service.databases += ("shop host=evil sslmode=disable",)
    with pytest.raises(psycopg.OperationalError, match="does not exist"):
        psycopg.connect(service.dsn(dbname="shop host=evil sslmode=disable", sslmode="disable"))
    for user in ("alice ", "ALICE", '"alice"', "ali\u0441e"):
        with pytest.raises(psycopg.OperationalError, match="you may not be"):
            psycopg.connect(host="127.0.0.1", port=service.port, user=user, dbname="shop", sslmode="disable")


def test_psycopg_binary_parameters_pipelines_and_copy(service: Service) -> None:
    with psycopg.connect(service.dsn(sslmode="disable"), autocommit=True) as connection:
        row = connection.execute(
            "SELECT %b::int4 + 1, %b::text, %b::numeric, %s::date", (41, "grüße", 1.5, "2020-02-03")
        ).fetchone()
        assert row is not None and row[:2] == (42, "grüße")
        wait_for(lambda: Outcome(1) in service.facts, what="the facts of the first statement")
        (bound,) = fields(service.facts, "postgres.statements.bind")
        parameters = bound["parameters"]
        assert isinstance(parameters, tuple)
        assert parameters[1] == "grüße" and parameters[3] == "2020-02-03" and len(parameters) == 4

        with connection.pipeline():
            many = [connection.execute("SELECT %s::int", (index,)) for index in range(200)]
        assert [cursor.fetchone() for cursor in many] == [(index,) for index in range(200)]

        with pytest.raises(psycopg.errors.DivisionByZero), connection.pipeline():
            connection.execute("SELECT 1")
            connection.execute("SELECT 1/0")
            connection.execute("SELECT 2")
        assert connection.execute("SELECT 3").fetchone() == (3,)

        cursor = connection.cursor()
        cursor.execute("CREATE TEMP TABLE t (a int, b text)")
        with cursor.copy("COPY t FROM STDIN") as copying:
            for index in range(5000):
                copying.write_row((index, "x" * 100))
        with cursor.copy("COPY t TO STDOUT (FORMAT binary)") as copying:
            assert sum(len(part) for part in copying) > 500_000
        wait_for(lambda: service.facts.count(Outcome(5000)) == 2, what="the facts of both copies")

        # More answers are outstanding than are kept: the client waits, and nothing is lost.
        cursor.execute("TRUNCATE t")
        cursor.executemany("INSERT INTO t VALUES (%s, 'y')", ((index,) for index in range(60_000)))
        assert connection.execute("SELECT count(*) FROM t").fetchone() == (60_000,)

        prepared = [connection.execute("SELECT %s::int8", (index,), prepare=True) for index in range(3)]
        assert [cursor.fetchone() for cursor in prepared] == [(index,) for index in range(3)]
        assert len(fields(service.facts, "postgres.statements.parse")) < len(
            fields(service.facts, "postgres.statements.bind")
        )

        with connection.transaction(), connection.cursor(name="server_side") as named:
            named.execute("SELECT * FROM generate_series(1, 1000)")
            named.itersize = 100
            assert sum(value for (value,) in named) == 500_500


@pytest.mark.parametrize("cursor", [psycopg.Cursor, psycopg.ClientCursor], ids=["extended", "simple"])
def test_sqlalchemy(service: Service, cursor: type[psycopg.Cursor[object]]) -> None:
    url = sa.URL.create(
        "postgresql+psycopg",
        username="alice",
        host="127.0.0.1",
        port=service.port,
        database="shop",
        query={"sslmode": "disable"},
    )
    engine = sa.create_engine(url, connect_args={"cursor_factory": cursor})
    try:
        customers = sa.Table("customers", sa.MetaData(), autoload_with=engine)
        with engine.begin() as connection:
            chosen = sa.select(customers.c.name).where(customers.c.id.in_((1, 2))).order_by(customers.c.id)
            assert connection.execute(chosen).scalars().all() == ["name 1", "name 2"]
            with pytest.raises(sa.exc.IntegrityError), connection.begin_nested():
                connection.execute(sa.insert(customers), [{"id": 1000}, {"id": 1}])
            assert connection.execute(sa.select(sa.func.count()).select_from(customers)).scalar() == 100
    finally:
        engine.dispose()


def test_listen_and_notify(service: Service) -> None:
    with (
        psycopg.connect(service.dsn(sslmode="disable"), autocommit=True) as listening,
        psycopg.connect(service.dsn(sslmode="disable"), autocommit=True) as talking,
    ):
        listening.execute("LISTEN news")
        talking.execute("NOTIFY news, 'hello'")
        (heard,) = listening.notifies(timeout=20, stop_after=1)
        assert (heard.channel, heard.payload, heard.pid) == ("news", "hello", talking.info.backend_pid)


@pytest.mark.needs("pgbench", "pg_dump", "pg_restore")
def test_pgbench_and_a_dump_restored(service: Service, server: Server, tmp_path: Path) -> None:
    env = {**os.environ, "PGSSLMODE": "disable"}
    common = ("-h", "127.0.0.1", "-p", str(service.port), "-U", "alice")

    def run(*command: str) -> str:
        done = subprocess.run(command, capture_output=True, text=True, env=env, timeout=120)
        assert done.returncode == 0, done.stderr
        return done.stdout

    server.admin("CREATE DATABASE bench OWNER alice; CREATE DATABASE again OWNER alice", "postgres")
    service.databases += ("bench", "again")
    run("pgbench", *common, "-i", "-q", "bench")
    for mode in ("simple", "extended", "prepared"):
        done = run("pgbench", *common, "-M", mode, "-c", "4", "-t", "50", "bench")
        assert "number of transactions actually processed: 200/200" in done
    dump = tmp_path / "bench.dump"
    run("pg_dump", *common, "-Fc", "-f", str(dump), "bench")
    run("pg_restore", *common, "-d", "again", "--no-owner", str(dump))
    assert server.admin("SELECT count(*) FROM pgbench_accounts", "again") == "100000\n"


def _slow(server: Server) -> bool:
    return (
        server.admin("SELECT count(*) FROM pg_stat_activity WHERE query LIKE 'SELECT pg_sleep(600)%'")
        == "1\n"
    )


def test_ctrl_c_in_psql_cancels_the_statement(service: Service, server: Server) -> None:
    client = subprocess.Popen(
        ("psql", "-XAt", service.dsn(sslmode="disable")),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        assert client.stdin is not None
        client.stdin.write("SELECT pg_sleep(600);\n")
        client.stdin.flush()
        wait_for(lambda: _slow(server), what="the statement to run")
        client.send_signal(signal.SIGINT)
        wait_for(lambda: not _slow(server), what="the statement to be cancelled")
        _, err = client.communicate(timeout=30)
        assert "canceling statement due to user request" in err
    finally:
        stop(client)
    service.settle()
    assert Failed("canceling statement due to user request", "57014") in service.facts


def _connect(service: Service) -> socket.socket:
    sock = socket.create_connection(("127.0.0.1", service.port), 20)
    sock.settimeout(20)
    return sock


def _read_to_end(sock: socket.socket) -> bytes:
    whole = b""
    while piece := sock.recv(65536):
        whole += piece
    return whole


def test_a_cancel_request_serves_only_who_knows_the_key(
    service: Service, server: Server, identity: dict[str, object]
) -> None:
    settings = {name: str(value) for name, value in identity.items()}
    with psycopg.connect(service.dsn(**settings), autocommit=True) as connection:
        info = connection.pgconn
        failed: list[Exception] = []

        def wait() -> None:
            try:
                connection.execute("SELECT pg_sleep(600)")
            except psycopg.Error as exc:
                failed.append(exc)

        waiting = threading.Thread(target=wait)
        waiting.start()
        wait_for(lambda: _slow(server), what="the statement to run")
        for request in (CancelRequest(info.backend_pid, bytes(4)), CancelRequest(1, bytes(4))):
            with _connect(service) as sock:
                sock.sendall(request.encode())
                assert _read_to_end(sock) == b""
        assert _slow(server)
        connection.cancel_safe(timeout=20)
        waiting.join(20)
        assert len(failed) == 1 and isinstance(failed[0], psycopg.errors.QueryCanceled)
        assert connection.execute("SELECT 'alive'").fetchone() == ("alive",)


def test_a_cancel_request_of_another_user_is_for_nothing(service: Service, server: Server) -> None:
    """With the right key: somebody who has read it somewhere, and holds a certificate of their own."""
    with _connect(service) as session:
        session.sendall(Startup(startup.VERSION_3_0, ((b"user", b"alice"), (b"database", b"shop"))).encode())
        got = b""
        while not got.endswith(backend.ready()):
            got += session.recv(65536)
        at = got.index(b"K\0\0\0\x0c")
        request = CancelRequest(*backend.parse_key_data(memoryview(got[at : at + 13]))).encode()
        session.sendall(frontend.query("SELECT pg_sleep(600)"))
        wait_for(lambda: _slow(server), what="the statement to run")
        with _connect(service) as sock:
            sock.sendall(EncryptionRequest().encode())
            assert sock.recv(1) == b"S"
            with certs.client(name="user.test").wrap_socket(sock, server_hostname=certs.SERVER_NAME) as tls:
                tls.sendall(request)
                assert tls.recv(1) == b""
        assert _slow(server)
        with _connect(service) as sock:
            sock.sendall(request)
            assert _read_to_end(sock) == b""
        got = b""
        while not got.endswith(backend.ready()):
            got += session.recv(65536)
        assert b"57014" in got


def test_a_client_that_vanishes_leaves_nothing_running(service: Service, server: Server) -> None:
    connection = psycopg.connect(service.dsn(sslmode="disable"), autocommit=True)
    connection.pgconn.send_query(b"SELECT pg_sleep(600)")
    wait_for(lambda: _slow(server), what="the statement to run")
    with socket.socket(fileno=os.dup(connection.fileno())) as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        connection.close()
    wait_for(lambda: not _slow(server), what="the statement to end")

    copying = psycopg.connect(service.dsn(sslmode="disable"), autocommit=True)
    copying.execute("CREATE TABLE IF NOT EXISTS half (a int)")
    pid = copying.info.backend_pid
    copying.pgconn.exec_(b"COPY half FROM STDIN")
    copying.pgconn.put_copy_data(b"1\n" * 1000)
    copying.close()
    there = f"SELECT count(*) FROM pg_stat_activity WHERE pid = {pid}"
    wait_for(lambda: server.admin(there) == "0\n", what="the session to end")
    assert server.admin("SELECT count(*) FROM half") == "0\n"


def test_an_end_from_outside_is_read_by_the_client_and_cancels(service: Service, server: Server) -> None:
    with contextlib.closing(psycopg.connect(service.dsn(sslmode="disable"))) as connection:
        connection.pgconn.send_query(b"SELECT pg_sleep(600)")
        wait_for(lambda: _slow(server), what="the statement to run")
        relay = service.relays[-1]
        relay._loop.call_soon_threadsafe(relay.end, "locked: this user left")
        wait_for(lambda: not _slow(server), what="the statement to be cancelled")
        result = connection.pgconn.get_result()
        assert result is not None and b"locked: this user left" in result.error_message


def _started(service: Service) -> socket.socket:
    sock = _connect(service)
    sock.sendall(Startup(startup.VERSION_3_0, ((b"user", b"alice"), (b"database", b"shop"))).encode())
    got = b""
    while not got.endswith(backend.ready()):
        got += sock.recv(65536)
    assert got.startswith(backend.authentication_ok())
    return sock


def test_newer_protocol_versions_are_negotiated_by_the_server(service: Service) -> None:
    with _connect(service) as sock:
        sock.sendall(Startup(startup.VERSION_3_2, ((b"user", b"alice"), (b"database", b"shop"))).encode())
        got = b""
        while not got.endswith(backend.ready()):
            got += sock.recv(65536)
        assert got[:1] == b"v"
        negotiation = backend.parse_negotiation(memoryview(got[: 1 + int.from_bytes(got[1:5], "big")]))
        assert negotiation.version & 0xFFFF == 0


@pytest.mark.parametrize(
    "raw", [b"GET / HTTP/1.1\r\n\r\n", struct.pack(">II", 8, 2 << 16), EncryptionRequest().encode()[:4] * 2]
)
def test_garbage_instead_of_a_login_is_answered_and_closed(service: Service, raw: bytes) -> None:
    with _connect(service) as sock:
        sock.sendall(raw)
        assert _read_to_end(sock)[:1] in (b"E", b"")
    wait_for(lambda: service.errors, what="the error")
    assert isinstance(service.errors[0], ProtocolError)


def test_garbage_within_a_session_is_told_answered_and_closed(service: Service) -> None:
    with _started(service) as sock:
        sock.sendall(frontend.query("SELECT 1"))
        while not sock.recv(65536).endswith(backend.ready()):
            pass
        secret = frontend.query("ALTER ROLE alice PASSWORD 'hunter2'")
        sock.sendall(secret + b"\xff" * 50)
        assert b"FATAL" in _read_to_end(sock)
    service.settle()
    fact = next(fact for fact in service.facts if isinstance(fact, Malformed))
    assert (fact.by, fact.size) == ("client", len(secret) + 50)
    assert "hunter2" not in repr((service.facts, service.errors))


def test_a_gigabyte_of_query_is_refused_in_bounded_memory(service: Service) -> None:
    def resident() -> int:
        return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGESIZE")

    with _started(service) as sock:
        before = resident()
        chunk = b"x" * (1 << 20)
        sock.sendall(b"Q" + struct.pack(">I", (1 << 30) + 4))
        for _ in range(1024):
            sock.sendall(chunk)
        got = b""
        while not got.endswith(backend.ready()):
            got += sock.recv(65536)
        assert b"longer than 256 MiB" in got
        assert resident() - before < 64 << 20
        sock.sendall(frontend.query("SELECT 1"))
        assert sock.recv(65536)[:1] == b"T"


def test_endless_rows_to_a_slow_reader_stay_in_bounded_memory(service: Service) -> None:
    """Attack A66, fault F14."""
    with _started(service) as sock:
        sock.sendall(frontend.query("SELECT repeat('x', 1000), generate_series(1, 100000000)"))
        for _ in range(200):
            assert sock.recv(65536)
        (relay,) = service.relays
        wait_for(lambda: relay._client.unsent, what="the client to be behind")
        assert relay._client.unsent < 1 << 20


def _serve_once(answer: bytes | None) -> Iterator[int]:
    """A server that says this and no more, whatever it is asked."""
    port = free_port()
    with socket.create_server(("127.0.0.1", port)) as listening:
        done = threading.Event()

        def serve() -> None:
            sock, _ = listening.accept()
            with sock:
                if answer is not None:
                    sock.recv(100)
                    sock.sendall(answer)
                done.wait(20)

        thread = threading.Thread(target=serve)
        thread.start()
        yield port
        done.set()
        thread.join(20)


@pytest.mark.parametrize(
    ("answer", "text"),
    [
        (b"N", "does not offer TLS"),
        (b"garbage", "does not answer as PostgreSQL does"),
        # What comes in clear text before the handshake would pass for what comes inside it (CVE-2021-23222).
        (b"S" + backend.authentication_ok() + backend.ready(), "does not answer as PostgreSQL does"),
    ],
)
def test_servers_that_are_none(answer: bytes, text: str) -> None:
    for port in _serve_once(answer):
        with serving(f"127.0.0.1:{port}") as service:
            assert text in psql(service, "-c", "SELECT 1").stderr


def test_a_server_that_never_answers_is_named_after_the_deadline(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fault F15."""
    monkeypatch.setattr("pkgs.agents.db.postgres.limits.LOGIN_S", 1.0)
    for port in _serve_once(None):
        with serving(f"127.0.0.1:{port}") as service:
            done = psql(service, "-c", "SELECT 1")
            assert "database db did not answer the agent's login within 1 s" in done.stderr


def test_a_server_that_is_down_is_named(service: Service) -> None:
    port = free_port()
    with serving(f"127.0.0.1:{port}") as other:
        assert f"cannot connect to 127.0.0.1:{port}" in psql(other, "-c", "SELECT 1").stderr


def test_a_session_that_the_server_ends_says_so(service: Service, server: Server) -> None:
    with psycopg.connect(service.dsn(sslmode="disable"), autocommit=True) as connection:
        server.admin(f"SELECT pg_terminate_backend({connection.info.backend_pid})")
        with pytest.raises(psycopg.OperationalError, match="terminating connection"):
            connection.execute("SELECT 1")
