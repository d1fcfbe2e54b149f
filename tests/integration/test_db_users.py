"""Users made on demand at a real PostgreSQL: made, given exactly their roles, and nothing left behind."""

from __future__ import annotations

import contextlib
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from pkgs.agents.db.users import limits
from pkgs.common.errors import DeniedError, InputError, UnavailableError
from pkgs.common.events import codes
from tests.integration.databases_kit import until
from tests.integration.db_users_kit import ADMIN, Agent, agent, order
from tests.integration.postgres_kit import Server, postgres
from tests.unit.net import certs
from tests.unit.net.loops import run

pytestmark = pytest.mark.needs("psql", "pg_isready")

SETUP = f"""
CREATE ROLE "{ADMIN}" LOGIN CREATEROLE;
CREATE ROLE reader; CREATE ROLE writer;
CREATE ROLE taken LOGIN;
GRANT reader, writer TO "{ADMIN}" WITH ADMIN OPTION;
"""
STATE = """
SELECT r.rolcanlogin, array_to_string(array(SELECT m.roleid::regrole::text FROM pg_auth_members m
WHERE m.member = r.oid ORDER BY 1), ' ') FROM pg_roles r WHERE r.rolname = $name$%s$name$
"""


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with postgres() as running:
        running.admin(SETUP, "postgres")
        yield running


def here(server: Server, folder: Path) -> Agent:
    one = agent("postgres", f"127.0.0.1:{server.port}", folder)
    one.users.start()
    return one


def state(server: Server, user: str) -> str:
    return server.admin(STATE % user, "postgres").strip()


@contextlib.contextmanager
def session(server: Server, user: str, folder: Path) -> Iterator[psycopg.Connection]:
    """As the agent's own connection for the user, by certificate."""
    mine = certs.pair(user)
    for name, text in (("user.pem", mine.cert), ("user.key", mine.key.decode())):
        (folder / name).touch(0o600)
        (folder / name).write_text(text)
    with psycopg.connect(
        host="127.0.0.1",
        port=server.port,
        user=user,
        dbname="postgres",
        sslmode="require",
        sslcert=str(folder / "user.pem"),
        sslkey=str(folder / "user.key"),
    ) as connection:
        yield connection


def test_made_at_the_first_session_and_locked_after_the_last(server: Server, tmp_path: Path) -> None:
    async def story() -> None:
        one = here(server, tmp_path / "notes")
        await one.claim("first", "ann", "reader", "writer")
        assert state(server, "ann") == 't|"teleport-auto-user" reader writer'
        await one.claim("second", "ann", "writer", "reader")
        with pytest.raises(DeniedError, match="other database roles"):
            await one.claim("third", "ann", "reader")
        with session(server, "ann", tmp_path):
            one.release("first", "ann")
            one.release("second", "ann")
            assert len(one.notes) == 1
            # The server knows of a session, as it would of another agent's.
            with pytest.raises(DeniedError, match="other database roles"):
                await one.claim("fourth", "ann", "reader")
            assert state(server, "ann").endswith(" reader writer")
        await until(lambda: not one.notes, "the user to be deactivated")
        assert state(server, "ann") == 'f|"teleport-auto-user"'
        assert [told.kind for told in one.told] == [codes.DB_SESSION_USER_DEACTIVATE]
        expected = {"sid": "of-the-session", "username": "ann", "delete": False, "success": True}
        assert one.told[0].fields == expected
        await one.claim("again", "ann", "reader")
        assert state(server, "ann") == 't|"teleport-auto-user" reader'
        one.release("again", "ann")
        await one.users.close()
        assert state(server, "ann") == 'f|"teleport-auto-user"'

    before, limits.OTHERS_LEAVE_S = limits.OTHERS_LEAVE_S, 0.5
    try:
        run(story())
    finally:
        limits.OTHERS_LEAVE_S = before


def test_dropped_unless_something_depends_on_it(server: Server, tmp_path: Path) -> None:
    async def story() -> None:
        one = here(server, tmp_path / "notes")
        await one.claim("s", "bob", drop=True)
        one.release("s", "bob")
        await until(lambda: not one.notes, "the user to be dropped")
        assert state(server, "bob") == ""
        await one.claim("s", "bob", "reader", drop=True)
        server.admin("CREATE TABLE of_bob (); ALTER TABLE of_bob OWNER TO bob", "shop")
        one.release("s", "bob")
        await until(lambda: not one.notes, "the user to be locked")
        assert state(server, "bob") == 'f|"teleport-auto-user"'
        assert [told.fields["delete"] for told in one.told] == [True, False]
        await one.users.close()

    run(story())


def test_names_stay_names_and_users_of_others_stay_theirs(server: Server, tmp_path: Path) -> None:
    """Attack A26."""

    async def story() -> None:
        one = here(server, tmp_path / "notes")
        for name in ("taken", "postgres"):
            before = state(server, name)
            with pytest.raises(DeniedError, match="no member of teleport-auto-user"):
                await one.claim("s", name, "reader")
            assert state(server, name) == before
        with pytest.raises(DeniedError, match="admin user"):
            await one.claim("s", ADMIN)
        with pytest.raises(InputError):
            await one.claim("s", "x" * 64)
        assert one.notes == []  # nothing was begun, so there is nothing to look after
        with pytest.raises(UnavailableError, match="does not exist"):
            await one.claim("s", "eve", "no such role")
        assert state(server, "eve") == ""
        hostile = ('a" SUPERUSER; DROP ROLE reader; --', "Ann", "ann ", "host=evil sslmode=disable", "ünï")
        for name in hostile:
            await one.claim("s", name, "reader")
            assert state(server, name) == 't|"teleport-auto-user" reader', name
            one.release("s", name)
        await one.users.close()
        for name in hostile:
            assert state(server, name) == 'f|"teleport-auto-user"', name
        assert server.admin("SELECT count(*) FROM pg_roles WHERE rolsuper", "postgres").strip() == "1"

    run(story())


def test_a_killed_agent_leaves_nothing_after_its_next_start(server: Server, tmp_path: Path) -> None:
    made_active(agent("postgres", f"127.0.0.1:{server.port}", tmp_path / "notes"))
    assert state(server, "cleo") == 't|"teleport-auto-user" reader'
    assert len(list((tmp_path / "notes").iterdir())) == 1

    async def story() -> None:
        next_start = here(server, tmp_path / "notes")
        await until(lambda: not next_start.notes, "the user to be deactivated")
        assert state(server, "cleo") == 'f|"teleport-auto-user"'
        assert [told.fields["sid"] for told in next_start.told] == ["of-the-session"]
        await next_start.users.close()

    run(story())


def made_active(one: Agent) -> None:
    """In a process that is killed at once."""
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


def test_a_server_that_is_away_is_asked_again(server: Server, tmp_path: Path) -> None:
    async def story() -> None:
        one = here(server, tmp_path / "notes")
        await one.claim("s", "dan", "reader")
        server.admin(f'ALTER ROLE "{ADMIN}" NOLOGIN', "postgres")
        one.release("s", "dan")
        await until(lambda: one.told, "the failure to be told")
        assert one.told[0].kind is codes.DB_SESSION_USER_DEACTIVATE_FAIL
        server.admin(f'ALTER ROLE "{ADMIN}" LOGIN', "postgres")
        await until(lambda: not one.notes, "the user to be deactivated")
        assert state(server, "dan") == 'f|"teleport-auto-user"'
        await one.users.close()

    run(story())
