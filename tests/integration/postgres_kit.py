"""A real PostgreSQL that lets in by certificate alone, and a Database Service without a cluster before it.

The service's port is what a user's client sees of proxy and agent together: an SSLRequest is answered `S` and
followed by TLS with a client certificate, and a client that begins without stands for the local tunnel."""

from __future__ import annotations

import atexit
import contextlib
import functools
import os
import pwd
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pkgs.agents.db.engine import Asked, Granted
from pkgs.agents.db.postgres.engine import PostgresEngine
from pkgs.common.dbwire.postgres.startup import EncryptionRequest
from pkgs.common.errors import DeniedError
from pkgs.common.net.stream import Stream
from pkgs.common.resources.role import UNRESTRICTED, DbConditions
from tests.harness.ports import free_port
from tests.harness.wait import wait_for
from tests.integration.db_kit import FakeSession, Policy, accepting, database
from tests.unit.net import certs

PROGRAMS = max(Path("/usr/lib/postgresql").glob("*/bin"), default=Path("/usr/lib/postgresql"))
"""Debian keeps the server's own programs out of PATH."""
SETUP = """
CREATE ROLE alice LOGIN;
CREATE ROLE guarded LOGIN PASSWORD 'a password';
CREATE DATABASE shop OWNER alice;
\\c shop
SET ROLE alice;
CREATE TABLE customers (id int PRIMARY KEY, name text, email text, born date, balance numeric);
INSERT INTO customers SELECT n, 'name ' || n, 'mail' || n || '@example.com', date '2000-01-01' + n, n * 1.5
  FROM generate_series(1, 100) n;
"""


@dataclass(frozen=True)
class Server:
    port: int
    folder: Path

    def admin(self, sql: str, database: str = "shop") -> str:
        """Run SQL as the superuser, past the Database Service."""
        return subprocess.run(
            (
                *("psql", "-XAtq", "-v", "ON_ERROR_STOP=1", "-h", str(self.folder), "-p", str(self.port)),
                *("-U", "postgres", "-d", database, "-f", "-"),
            ),
            input=sql,
            check=True,
            capture_output=True,
            text=True,
            timeout=60,
        ).stdout


def _owner() -> tuple[pwd.struct_passwd | None, dict[str, Any]]:
    """Who the server runs as, also for `subprocess`: the user `postgres` when we are root, which it refuses
    to be."""
    if os.geteuid() != 0:
        return None, {}
    owner = pwd.getpwnam("postgres")
    return owner, {"user": owner.pw_uid, "group": owner.pw_gid, "extra_groups": []}


@functools.cache
def _new_data() -> Path:
    """What `initdb` makes, once for all servers of this process: to be copied, for it takes a second each."""
    folder = Path(tempfile.mkdtemp(prefix="pg-new-", dir="/tmp"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    owner, identity = _owner()
    if owner is not None:
        os.chown(folder, owner.pw_uid, owner.pw_gid)
    data = folder / "data"
    run = (str(PROGRAMS / "initdb"), "-D", str(data), "-U", "postgres", "-E", "UTF8", "--locale=C", "-N")
    subprocess.run(run, check=True, capture_output=True, cwd=folder, timeout=120, **identity)
    return data


@contextlib.contextmanager
def postgres(settings: Sequence[str] = (), files: dict[str, str] | None = None) -> Iterator[Server]:
    """Started anew. `files`: its
    `server.pem`, `server.key` and `ca.pem` for clients, where they are not those of the tests."""
    folder = Path(tempfile.mkdtemp(prefix="pg-", dir="/tmp"))
    owner, identity = _owner()
    server = Server(free_port(), folder)
    mine = certs.pair(certs.SERVER_NAME)
    files = files or {"ca.pem": certs.roots(), "server.pem": mine.cert, "server.key": mine.key.decode()}
    for name, text in files.items():
        path = folder / name
        path.touch(0o600)
        path.write_text(text)
    (folder / "hba.conf").write_text(
        "local all postgres trust\nhostssl all guarded all scram-sha-256\nhostssl all all all cert\n"
    )
    if owner is not None:
        for path in (folder, *folder.iterdir()):
            os.chown(path, owner.pw_uid, owner.pw_gid)
    data = folder / "data"
    subprocess.run(("cp", "-a", str(_new_data()), str(data)), check=True, timeout=60)
    options = (
        *("ssl=on", f"ssl_ca_file={folder}/ca.pem", f"ssl_cert_file={folder}/server.pem"),
        *(f"ssl_key_file={folder}/server.key", f"hba_file={folder}/hba.conf", "fsync=off"),
        *(
            f"unix_socket_directories={folder}",
            f"port={server.port}",
            "listen_addresses=127.0.0.1",
            *settings,
        ),
    )
    command = [str(PROGRAMS / "postgres"), "-D", str(data)]
    for option in options:
        command += ["-c", option]
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd=folder, **identity
        )
    try:
        ready = ("pg_isready", "-q", "-h", str(folder), "-p", str(server.port))
        wait_for(
            lambda: process.poll() is not None or subprocess.run(ready).returncode == 0,
            what="PostgreSQL",
            deadline_s=60,
        )
        assert process.poll() is None, (folder / "log").read_text()
        server.admin(SETUP, "postgres")
        yield server
    finally:
        process.send_signal(2)  # fast shutdown: sessions are ended
        process.wait(60)
        shutil.rmtree(folder)


@dataclass
class Service(Policy):
    """What the Database Service decides, and what it was told."""

    port: int = 0
    users: frozenset[str] = frozenset(("alice", "guarded", "nobody"))
    databases: tuple[str, ...] = ("shop", "postgres")

    def dsn(self, **more: object) -> str:
        """Of a client behind the local tunnel."""
        fields: dict[str, object] = {
            "host": "127.0.0.1",
            "port": self.port,
            "user": "alice",
            "dbname": "shop",
        }
        return " ".join(f"{name}='{value}'" for name, value in (fields | more).items())

    def forget(self) -> None:
        self.asked.clear()
        self.facts.clear()
        self.errors.clear()
        self.relays.clear()

    @contextlib.contextmanager
    def for_one_test(self) -> Iterator[None]:
        """It begins with nothing told and nothing restricted, and no session of it is left at its end."""
        self.forget()
        yield
        self.restrictions = UNRESTRICTED
        self.settle()


class _Session(FakeSession):
    def __init__(self, service: Service, engine: PostgresEngine, user: str) -> None:
        super().__init__(service, engine)
        self._service = service
        self.user = user

    async def authorize(self, asked: Asked) -> Granted:
        if asked.database not in self._service.databases:
            raise DeniedError(f'you may not be in "{asked.database}"')
        return await super().authorize(asked)


@contextlib.contextmanager
def serving(uri: str, restrictions: DbConditions = UNRESTRICTED) -> Iterator[Service]:
    """In a thread of its own, so that tests may use blocking clients."""
    service = Service(database("postgres", uri), restrictions=restrictions)
    engine, context = PostgresEngine(), certs.server(mutual=True)

    async def session(client: Stream) -> None:
        user = "tunnel"
        first = EncryptionRequest().encode()
        if await client.peek(len(first)) == first:
            await client.read_exactly(len(first))
            client.write(b"S")
            await client.drain()
            await client.handshake(context, server=True)
            user = "certificate"
        await engine.serve(client, _Session(service, engine, user))

    with accepting(service, session) as service.port:
        yield service


def identity_in(folder: Path) -> dict[str, object]:
    """What `tsh db login` writes: the user's certificate, its key, and whom to trust; as fields of a DSN."""
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
