"""Sessions with a real PostgreSQL that do not go well: cancelled, cut, garbled; and servers that are none."""

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

from pkgs.agents.db.engine import Failed, Malformed
from pkgs.common.dbwire.postgres import backend, frontend, startup
from pkgs.common.dbwire.postgres.startup import CancelRequest, EncryptionRequest, Startup
from pkgs.common.errors import ProtocolError
from tests.harness.clients import stop
from tests.harness.ports import free_port
from tests.harness.wait import wait_for
from tests.integration.postgres_kit import Server, Service, identity_in, postgres, psql, serving
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
    with running.for_one_test():
        yield running


@pytest.fixture(scope="module")
def identity(tmp_path_factory: pytest.TempPathFactory) -> dict[str, object]:
    return identity_in(tmp_path_factory.mktemp("identity"))


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


def _until_ready(sock: socket.socket) -> bytes:
    whole = b""
    while not whole.endswith(backend.ready()):
        piece = sock.recv(65536)
        assert piece, whole
        whole += piece
    return whole


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
        got = _until_ready(session)
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
        assert b"57014" in _until_ready(session)


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
    assert _until_ready(sock).startswith(backend.authentication_ok())
    return sock


def test_newer_protocol_versions_are_negotiated_by_the_server(service: Service) -> None:
    with _connect(service) as sock:
        sock.sendall(Startup(startup.VERSION_3_2, ((b"user", b"alice"), (b"database", b"shop"))).encode())
        got = _until_ready(sock)
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
        _until_ready(sock)
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
        assert b"longer than 256 MiB" in _until_ready(sock)
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


def test_a_server_that_is_down_is_named() -> None:
    port = free_port()
    with serving(f"127.0.0.1:{port}") as other:
        assert f"cannot connect to 127.0.0.1:{port}" in psql(other, "-c", "SELECT 1").stderr


def test_a_session_that_the_server_ends_says_so(service: Service, server: Server) -> None:
    with psycopg.connect(service.dsn(sslmode="disable"), autocommit=True) as connection:
        server.admin(f"SELECT pg_terminate_backend({connection.info.backend_pid})")
        with pytest.raises(psycopg.OperationalError, match="terminating connection"):
            connection.execute("SELECT 1")
