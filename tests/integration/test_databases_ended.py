"""What is left of a session that was ended: nothing at the server, and nothing that its engine may still do
but end what it left running there."""

from __future__ import annotations

import asyncio
import contextlib
import subprocess
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from pkgs.agents.db import limits
from pkgs.agents.db.engine import Asked, Session
from pkgs.agents.db.mysql.engine import MysqlEngine
from pkgs.agents.db.postgres.engine import PostgresEngine
from pkgs.common.api.resources import PutResource
from pkgs.common.dbwire.mysql import handshake
from pkgs.common.dbwire.mysql.flags import OFFERED, Capability
from pkgs.common.dbwire.mysql.packets import frame
from pkgs.common.dbwire.postgres import frontend
from pkgs.common.dbwire.postgres.startup import VERSION_3_0, Startup
from pkgs.common.errors import AccessError
from pkgs.common.net.stream import Stream
from pkgs.common.resources.kinds import Lock, LockSpec, LockTarget
from pkgs.common.resources.metadata import Metadata
from pkgs.common.resources.role import Conditions
from tests.harness.db_echo import EchoConversation, EchoEngine
from tests.integration.auth_kit import Kit, auth, events, role, run
from tests.integration.databases_kit import databases, line, server_files, until
from tests.integration.db_servers import mariadb
from tests.integration.postgres_kit import postgres

STATIC = "  - {{name: {name}, protocol: {name}, uri: '127.0.0.1:{port}', static_labels: {{env: prod}}}}"


async def lock(kit: Kit, user: str) -> None:
    spec = LockSpec(target=LockTarget(user=user), message="gone home")
    await kit.admin.call(PutResource(resource=Lock(metadata=Metadata(name=f"of-{user}"), spec=spec)))


@pytest.mark.needs("psql", "pg_isready", "mariadbd", "mariadb")
def test_a14_a_locked_users_query_is_ended_at_the_server(short_tmp: Path) -> None:
    async def main() -> None:
        with contextlib.ExitStack() as servers:
            async with auth(short_tmp / "auth") as kit:
                files = await server_files(kit)
                (short_tmp / "maria").mkdir()
                pg = servers.enter_context(postgres(files=files))
                maria = servers.enter_context(mariadb(short_tmp / "maria", files))
                more = "\n".join(
                    STATIC.format(name=name, port=port)
                    for name, port in (("postgres", pg.port), ("mysql", maria.port))
                )
                engines = (PostgresEngine(), MysqlEngine())
                async with databases(kit, short_tmp / "db", more=more, engines=engines) as db:
                    everything = Conditions(db_labels={"*": "*"}, db_users=["alice"], db_names=["*"])
                    await kit.admin.call(PutResource(resource=role("all", everything)))

                    async def opened(name: str) -> Stream:
                        user = await kit.user(f"{name}-user", "all")
                        certs, key = await db.certs(user, name, protocol=name)
                        return await db.dial(certs.tls_cert, key, name)

                    def in_postgres() -> bool:
                        sql = "SELECT count(*) FROM pg_stat_activity WHERE query = 'select pg_sleep(60)'"
                        return pg.admin(sql).strip() != "0"

                    def in_mariadb() -> bool:
                        socket = f"{maria.folder}/mariadb.sock"
                        asked = ("mariadb", "--no-defaults", "-S", socket, "-uroot", "-e")
                        shown = subprocess.run(
                            (*asked, "show full processlist"), check=True, capture_output=True, timeout=60
                        )
                        return b"select sleep(60)" in shown.stdout

                    stream = await opened("postgres")
                    startup = Startup(VERSION_3_0, ((b"user", b"alice"), (b"database", b"shop")))
                    stream.write(startup.encode())
                    stream.write(frontend.query("select pg_sleep(60)"))
                    await gone_with_the_lock(kit, "postgres-user", in_postgres)
                    stream = await opened("mysql")
                    flags = OFFERED & ~Capability.CONNECT_WITH_DB
                    stream.write(
                        frame(1, handshake.response(handshake.Response(flags, "alice", b"x", "", "p")))
                    )
                    stream.write(frame(0, b"\x03select sleep(60)"))
                    await gone_with_the_lock(kit, "mysql-user", in_mariadb)

    run(main, 180.0)


async def gone_with_the_lock(kit: Kit, user: str, runs: Callable[[], bool]) -> None:
    async def begun() -> bool:
        return await asyncio.to_thread(runs)

    async def gone() -> bool:
        return not await begun()

    await until(begun, "the query to run")
    await lock(kit, user)
    await until(gone, "the query to be ended at the server")


class Clinging(EchoEngine):
    """Does more at the end than it may, and notes what came of it."""

    def __init__(self) -> None:
        self.refused: list[str] = []
        self.allowed: list[str] = []
        self.over = False

    async def serve(self, client: Stream, session: Session) -> None:
        await client.read_exactly(len(b"hello alice app\n"))
        await session.authorize(Asked("alice", "app"))
        server = await session.secure(await session.dial())
        early = await session.dial()
        client.write(b"ok\n")
        try:
            await session.relay(client, server, EchoConversation())
        finally:
            await self._try("a stream from before", lambda: session.secure(early))
            await self._try("a connection", lambda: self._clear_away(session))
            await self._try("another", session.dial)
            await self._try("bytes", lambda: session.relay(client, early, EchoConversation()))
            try:
                await asyncio.Event().wait()
            finally:
                self.over = True

    async def _clear_away(self, session: Session) -> None:
        await session.secure(await session.dial())

    async def _try(self, what: str, step: Callable[[], Awaitable[object]]) -> None:
        try:
            await step()
        except AccessError:
            self.refused.append(what)
        else:
            self.allowed.append(what)


@pytest.mark.parametrize("end", ["locked", "left"])
def test_an_ended_session_may_clear_away_once_and_nothing_else(
    short_tmp: Path, monkeypatch: pytest.MonkeyPatch, end: str
) -> None:
    monkeypatch.setattr(limits, "CLEAR_AWAY_S", 1.0)
    engine = Clinging()

    async def main() -> None:
        async with (
            auth(short_tmp / "auth") as kit,
            databases(kit, short_tmp / "db", engines=(engine,)) as db,
        ):
            stream = await db.open(await kit.user("ann", "dba"))
            assert await line(stream) == "ok"
            if end == "locked":
                await lock(kit, "ann")
            else:
                await stream.close()
            await until(lambda: engine.over, "the engine to be stopped")
            assert engine.allowed == ["a connection"]
            assert engine.refused == ["a stream from before", "another", "bytes"]

            async def told() -> bool:
                return bool(await events(kit, "db.session.end"))

            await until(told, "the end to be audited")
            (ended,) = await events(kit, "db.session.end")
            assert ("gone home" in str(ended.get("reason"))) == (end == "locked")
            assert "login" not in str(ended.get("reason"))

    run(main)
