"""Users made on demand without a cluster: the keeper before a real server, with certificates of the tests.

Run as a program it makes a user active, says so, and waits to be killed."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import ssl
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import cast

import msgspec
import psycopg

from pkgs.agents.db.engines import ADMINISTRATORS
from pkgs.agents.db.upstream.credentials import Credentials
from pkgs.agents.db.upstream.servers import Servers
from pkgs.agents.db.users.accounts import Given, Objects, Wanted
from pkgs.agents.db.users.journal import Entry, Journal
from pkgs.agents.db.users.keeper import DatabaseUsers
from pkgs.common.events.codes import Kind
from pkgs.common.events.types import FieldValue
from pkgs.common.net.tls import load_chain
from pkgs.common.resources.kinds import Database
from pkgs.common.resources.kinds.infrastructure import DatabaseSpec, DbAdmin, DbTls
from pkgs.common.resources.metadata import Metadata
from tests.integration.postgres_kit import Server
from tests.unit.net import certs

ADMIN = "the admin"


class _Certificates:
    def __init__(self, roots: str, cert: str, key: bytes) -> None:
        self._context = ssl.create_default_context(cadata=roots)
        load_chain(self._context, cert, key)

    async def context(self, database: Database, user: str) -> ssl.SSLContext:
        assert user == ADMIN
        return self._context


@dataclass
class Told:
    kind: Kind
    fields: Mapping[str, FieldValue]


@dataclass
class Agent:
    """One agent's keeper."""

    database: Database
    folder: Path
    roots: str
    cert: str
    key: bytes
    told: list[Told] = field(default_factory=list)

    def __post_init__(self) -> None:
        async def emit(kind: Kind, fields: Mapping[str, FieldValue]) -> None:
            self.told.append(Told(kind, fields))

        log = logging.getLogger("users")
        self.users = DatabaseUsers(
            Journal(self.folder, log),
            Servers(cast(Credentials, _Certificates(self.roots, self.cert, self.key))),
            ADMINISTRATORS,
            lambda name: self.database,
            emit,
            log,
        )

    @property
    def notes(self) -> list[Path]:
        return list(self.folder.glob("*"))

    async def claim(
        self, session: object, user: str, *roles: str, drop: bool = False, objects: Objects | None = None
    ) -> Given:
        entry = Entry(database="db", user=user, drop=drop, fields={"sid": "of-the-session"})
        try:
            return await self.users.claim(session, self.database, entry, Wanted(roles, objects))
        except BaseException:
            self.release(session, user)
            raise

    def release(self, session: object, user: str) -> None:
        self.users.release(session, "db", user)


def agent(protocol: str, uri: str, folder: Path) -> Agent:
    spec = DatabaseSpec(
        protocol=protocol,
        uri=uri,
        tls=DbTls(server_name=certs.SERVER_NAME),
        admin_user=DbAdmin(name=ADMIN),
    )
    mine = certs.pair(ADMIN)
    return Agent(
        Database(metadata=Metadata(name="db"), spec=spec), folder, certs.roots(), mine.cert, mine.key
    )


def pg_setup() -> str:
    """For the superuser."""
    return f"""
CREATE ROLE "{ADMIN}" LOGIN CREATEROLE;
CREATE ROLE reader; CREATE ROLE writer;
CREATE ROLE taken LOGIN;
GRANT reader, writer TO "{ADMIN}" WITH ADMIN OPTION;
"""


def pg_agent(server: Server, folder: Path) -> Agent:
    """Before that server, and started."""
    one = agent("postgres", f"127.0.0.1:{server.port}", folder)
    one.users.start()
    return one


_STATE = """
SELECT r.rolcanlogin, array_to_string(array(SELECT m.roleid::regrole::text FROM pg_auth_members m
WHERE m.member = r.oid ORDER BY 1), ' ') FROM pg_roles r WHERE r.rolname = $name$%s$name$
"""


def pg_state(server: Server, user: str) -> str:
    """Whether it may log in, and its roles; empty: there is none."""
    return server.admin(_STATE % user, "postgres").strip()


@contextlib.contextmanager
def pg_session(
    server: Server, user: str, folder: Path, database: str = "postgres"
) -> Iterator[psycopg.Connection]:
    """As the agent's own connection for the user, by certificate."""
    mine = certs.pair(user)
    for name, text in (("user.pem", mine.cert), ("user.key", mine.key.decode())):
        (folder / name).touch(0o600)
        (folder / name).write_text(text)
    with psycopg.connect(
        host="127.0.0.1",
        port=server.port,
        user=user,
        dbname=database,
        sslmode="require",
        sslcert=str(folder / "user.pem"),
        sslkey=str(folder / "user.key"),
    ) as connection:
        yield connection


def made_active(one: Agent) -> None:
    """The user cleo, by a process that is killed at once."""
    command = (sys.executable, "-m", "tests.integration.db_users_kit")
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    try:
        assert process.stdin is not None and process.stdout is not None
        process.stdin.write(order(one, "cleo", "reader") + b"\n")
        process.stdin.flush()
        assert process.stdout.readline() == b"active\n"
    finally:
        process.kill()
        process.communicate(timeout=20)


class Order(msgspec.Struct):
    """For the program."""

    database: Database
    folder: str
    roots: str
    cert: str
    key: bytes
    user: str
    roles: list[str]


def order(one: Agent, user: str, *roles: str) -> bytes:
    return msgspec.json.encode(
        Order(one.database, str(one.folder), one.roots, one.cert, one.key, user, list(roles))
    )


async def _main() -> None:
    told = msgspec.json.decode(sys.stdin.buffer.readline(), type=Order)
    one = Agent(told.database, Path(told.folder), told.roots, told.cert, told.key)
    one.users.start()
    await one.claim("session", told.user, *told.roles)
    print("active", flush=True)
    await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(_main())
