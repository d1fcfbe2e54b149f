"""Health checks of databases: real servers, by the probe of their engines and by the service as a whole."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path

import pytest

from pkgs.agents.db.clickhouse.engine import ClickhouseEngine
from pkgs.agents.db.engine import HEALTH_USER, Engine, Secure
from pkgs.agents.db.mysql.engine import MysqlEngine
from pkgs.agents.db.postgres.engine import PostgresEngine
from pkgs.agents.db.redis.engine import RedisEngine
from pkgs.common.errors import AccessError
from pkgs.common.net.stream import Stream, adopt
from pkgs.common.net.tls import load_chain
from tests.integration.db_kit import database
from tests.integration.db_servers import clickhouse, mariadb, redis
from tests.integration.postgres_kit import postgres
from tests.unit.net import certs

ENGINES: dict[str, Engine] = {
    "postgres": PostgresEngine(),
    "mysql": MysqlEngine(),
    "redis": RedisEngine(),
    "clickhouse-http": ClickhouseEngine(),
}
SERVERS: dict[str, Callable[[Path], AbstractContextManager[object]]] = {
    "postgres": lambda folder: postgres(),
    "mysql": mariadb,
    "redis": redis,
    "clickhouse-http": clickhouse,
}
NEEDS = {
    "postgres": "psql",
    "mysql": "mariadbd",
    "redis": "redis-server",
    "clickhouse-http": "clickhouse-server",
}
each_protocol = pytest.mark.parametrize(
    "protocol", [pytest.param(name, marks=pytest.mark.needs(program)) for name, program in NEEDS.items()]
)


def showing(user: str, *, roots: str = "") -> Secure:
    async def secure(stream: Stream) -> Stream:
        context = ssl.create_default_context(cadata=roots or certs.roots())
        mine = certs.pair(user)
        load_chain(context, mine.cert, mine.key)
        await stream.handshake(context, server=False, server_hostname=certs.SERVER_NAME)
        return stream

    return secure


def probe(protocol: str, port: int, secure: Secure | None = None, source: str = "") -> str:
    """What is wrong; empty: nothing."""

    async def main() -> str:
        sock = socket.create_connection(
            ("127.0.0.1", port), 20, source_address=(source, 0) if source else None
        )
        sock.setblocking(False)
        stream = await adopt(sock)
        try:
            async with asyncio.timeout(20):
                target = database(protocol, f"127.0.0.1:{port}")
                await ENGINES[protocol].probe(stream, target, secure or showing(HEALTH_USER))
        except AccessError as problem:
            return f"{problem.message} {problem.detail}"
        finally:
            stream.abort()
        return ""

    return asyncio.run(main())


@each_protocol
def test_a_real_server_is_healthy_and_whom_we_do_not_trust_is_not(protocol: str, tmp_path: Path) -> None:
    with SERVERS[protocol](tmp_path) as server:
        port: int = server.port  # type: ignore[attr-defined]
        assert probe(protocol, port) == ""
        assert "not to be trusted" in probe(protocol, port, showing(HEALTH_USER, roots=certs.strangers()))


@contextlib.contextmanager
def saying(answer: bytes, *, tls: bool) -> Iterator[int]:
    """A server that says this and no more, whatever it is asked; `tls`: inside TLS."""

    def serve() -> None:
        with contextlib.suppress(OSError), listener.accept()[0] as plain:
            inside = certs.server(mutual=True).wrap_socket(plain, server_side=True) if tls else plain
            with inside:
                inside.settimeout(20)
                inside.sendall(answer)
                while inside.recv(4096):
                    pass

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=serve)
        thread.start()
        yield listener.getsockname()[1]
        thread.join(30)
        assert not thread.is_alive()


@pytest.mark.parametrize(
    ("protocol", "answer", "tls"),
    [
        ("postgres", b"HTTP/1.1 400 Bad Request", False),
        ("mysql", b"SSH-2.0-x\r\n", False),
        ("redis", b"SSH-2.0-x\r\n", False),
        ("redis", b"HTTP/1.1 400 Bad Request\r\n", True),
        ("redis", b"-LOADING Redis is loading the dataset in memory\r\n", True),
        ("redis", b"+PONG\r\n+PONG\r\n", True),
        ("clickhouse-http", b"-ERR unknown command\r\n\r\n", True),
        ("clickhouse-http", b"HTTP/1.1 503 x\r\nContent-Length: 0\r\n\r\n", True),
    ],
)
def test_servers_that_are_none_or_cannot_serve(protocol: str, answer: bytes, tls: bool) -> None:
    with saying(answer, tls=tls) as port:
        assert probe(protocol, port)


@pytest.mark.needs("mariadbd")
def test_health_checks_do_not_get_the_agents_host_blocked(tmp_path: Path) -> None:
    """Servers of MySQL's kind shut out a host that leaves them before its login, `max_connect_errors` times:
    neither may health checks do that, nor logins at accounts that want a password."""
    with mariadb(tmp_path, options=("--skip-name-resolve=OFF", "--max-connect-errors=2")) as server:
        for _ in range(5):
            assert probe("mysql", server.port, source="127.0.0.2") == ""
        for _ in range(3):
            with socket.create_connection(("127.0.0.1", server.port), 20, ("127.0.0.2", 0)) as sock:
                sock.recv(4096)
        # So that this test would notice.
        assert "blocked" in probe("mysql", server.port, source="127.0.0.2")
