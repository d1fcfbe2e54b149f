"""Users made on demand at a real MariaDB."""

from __future__ import annotations

import socket
import ssl
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

import pymysql
import pytest

from pkgs.agents.db.users.accounts import Objects
from pkgs.common.access.dbobjects import ImportRules, ObjectPermissions
from pkgs.common.dbwire.mysql import handshake
from pkgs.common.dbwire.mysql.flags import OFFERED, Capability
from pkgs.common.dbwire.mysql.packets import frame
from pkgs.common.errors import DeniedError, InputError
from tests.integration.databases_kit import until
from tests.integration.db_servers import Server, mariadb
from tests.integration.db_users_kit import ADMIN, Agent, agent, made_active
from tests.unit.net import certs
from tests.unit.net.loops import run

pytestmark = pytest.mark.needs("mariadbd", "mariadb-install-db", "mariadb")

SETUP = f"""
CREATE USER `{ADMIN}`@'%' REQUIRE SUBJECT '/CN={ADMIN}';
GRANT CREATE USER, PROCESS ON *.* TO `{ADMIN}`@'%';
GRANT SELECT, UPDATE ON mysql.* TO `{ADMIN}`@'%';
CREATE ROLE reader WITH ADMIN `{ADMIN}`@'%'; CREATE ROLE writer WITH ADMIN `{ADMIN}`@'%';
GRANT SELECT ON shop.* TO reader; GRANT INSERT ON shop.* TO writer;
CREATE USER taken@'%';
"""


def admin(server: Server, sql: str) -> str:
    command = ("mariadb", "--no-defaults", "-N", "-uroot", f"--socket={server.folder}/mariadb.sock")
    done = subprocess.run(command, input=sql, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with mariadb(tmp_path_factory.mktemp("mariadb")) as running:
        admin(running, SETUP)
        yield running


def here(server: Server, folder: Path) -> Agent:
    one = agent("mysql", server.uri, folder)
    one.users.start()
    return one


def connect(user: str, server: Server) -> pymysql.Connection:
    mine = certs.pair(user)
    for name, text in (("user.pem", mine.cert), ("user.key", mine.key.decode())):
        (server.folder / name).write_text(text)
    context = ssl.create_default_context(cadata=certs.roots())
    context.check_hostname = False
    context.load_cert_chain(server.folder / "user.pem", server.folder / "user.key")
    return pymysql.connect(host="127.0.0.1", port=server.port, user=user, ssl=context)


def locked(server: Server, user: str) -> str:
    name = user.encode().hex()
    sql = "SELECT JSON_VALUE(Priv, '$.account_locked') FROM mysql.global_priv WHERE User = "
    return admin(server, f"{sql} X'{name}'").strip()


def test_made_with_exactly_its_roles_and_locked_after_the_last(server: Server, tmp_path: Path) -> None:
    async def story() -> None:
        one = here(server, tmp_path / "notes")
        await one.claim("first", "ann", "reader", "writer")
        with connect("ann", server) as connection, connection.cursor() as cursor:
            cursor.execute("INSERT INTO shop.parts VALUES (1, 'x')")
            cursor.execute("SELECT count(*) FROM shop.parts")
            with pytest.raises(DeniedError, match="other database roles"):
                await one.claim("second", "ann", "reader")
            one.release("first", "ann")
        await until(lambda: not one.notes, "the user to be locked")
        with pytest.raises(pymysql.err.OperationalError, match="locked"):
            connect("ann", server)
        await one.claim("third", "ann", "reader")
        with connect("ann", server) as connection, connection.cursor() as cursor:
            cursor.execute("SELECT count(*) FROM shop.parts")
            with pytest.raises(pymysql.err.OperationalError, match="INSERT command denied"):
                cursor.execute("INSERT INTO shop.parts VALUES (2, 'x')")
        one.release("third", "ann")
        await until(lambda: not one.notes, "the user to be locked again")
        # What somebody granted it meanwhile is no more its than before.
        admin(server, "CREATE ROLE dba; GRANT dba TO ann@'%'; GRANT dba TO `the admin`@'%' WITH ADMIN OPTION")
        await one.claim("again", "ann", "reader")
        direct = admin(server, "SELECT Role FROM mysql.roles_mapping WHERE User = 'ann'").split()
        assert len(direct) == 2 and "dba" not in direct
        one.release("again", "ann")
        await until(lambda: not one.notes, "the user to be locked once more")
        await one.claim("fourth", "bob", drop=True)
        one.release("fourth", "bob")
        await one.users.close()
        assert locked(server, "bob") == ""
        assert [told.fields["delete"] for told in one.told] == [False, False, False, True]

    run(story())


def test_names_stay_names_and_users_of_others_stay_theirs(server: Server, tmp_path: Path) -> None:
    """Attack A26."""

    async def story() -> None:
        one = here(server, tmp_path / "notes")
        for name in ("taken", "root"):
            with pytest.raises(DeniedError, match="has not the role"):
                await one.claim("s", name, "reader")
        for name in ("ann ", "x" * 81, "a\0b", "\U0001f600"):
            with pytest.raises(InputError):
                await one.claim("s", name)
        nothing = Objects("shop", ObjectPermissions(), ImportRules([], one.database, "shop"))
        with pytest.raises(DeniedError, match="in PostgreSQL only"):
            await one.claim("s", "eve", objects=nothing)
        with pytest.raises(DeniedError, match="no role"):
            await one.claim("s", "eve", "none such")
        assert locked(server, "eve") == "" and one.notes == []
        hostile = ("a`@`%` IDENTIFIED BY 'x'; --", "it's", "back\\slash", "Ann", "ünï")
        for name in hostile:
            await one.claim("s", name, "reader")
            if name.isascii():  # certificates of the tests are no others
                connect(name, server).close()
            one.release("s", name)
        await one.users.close()
        for name in hostile:
            assert locked(server, name) in ("1", "true"), name

    run(story())


def test_a_killed_agent_leaves_nothing_after_its_next_start(server: Server, tmp_path: Path) -> None:
    made_active(agent("mysql", server.uri, tmp_path / "notes"))
    assert locked(server, "cleo") in ("0", "false")

    async def story() -> None:
        next_start = here(server, tmp_path / "notes")
        await until(lambda: not next_start.notes, "the user to be locked")
        assert locked(server, "cleo") in ("1", "true")
        await next_start.users.close()

    run(story())


def test_a_server_of_mysql_is_told_apart_before_anything_is_said(tmp_path: Path) -> None:
    def answer() -> None:
        with listener.accept()[0] as taken:
            taken.sendall(frame(0, handshake.greeting(said)))
            heard.append(taken.recv(100))

    heard: list[bytes] = []
    said = handshake.Greeting("8.0.36", 1, b"x" * 20, OFFERED | Capability.SSL)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=answer)
        thread.start()

        async def story() -> None:
            one = agent("mysql", f"127.0.0.1:{listener.getsockname()[1]}", tmp_path / "notes")
            one.users.start()
            with pytest.raises(InputError, match="in MariaDB, and not yet in MySQL"):
                await one.claim("s", "ann", "reader")
            assert one.notes == []
            await one.users.close()

        run(story())
        thread.join(20)
    assert ADMIN.encode() not in heard[0]
