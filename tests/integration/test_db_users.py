"""Users made on demand at a real PostgreSQL: made, given exactly their roles, and nothing left behind."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from pkgs.agents.db.users import limits
from pkgs.agents.db.users.journal import Entry, Journal
from pkgs.common.errors import DeniedError, InputError, UnavailableError
from pkgs.common.events import codes
from tests.integration.databases_kit import until
from tests.integration.db_users_kit import ADMIN, agent, made_active, pg_agent, pg_session, pg_setup, pg_state
from tests.integration.postgres_kit import Server, postgres
from tests.unit.net.loops import run

pytestmark = pytest.mark.needs("psql", "pg_isready")


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with postgres() as running:
        running.admin(pg_setup(), "postgres")
        yield running


def test_made_at_the_first_session_and_locked_after_the_last(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def story() -> None:
        one = pg_agent(server, tmp_path / "notes")
        await one.claim("first", "ann", "reader", "writer")
        assert pg_state(server, "ann") == 't|"teleport-auto-user" reader writer'
        await one.claim("second", "ann", "writer", "reader")
        with pytest.raises(DeniedError, match="other database roles"):
            await one.claim("third", "ann", "reader")
        with pg_session(server, "ann", tmp_path):
            one.release("first", "ann")
            one.release("second", "ann")
            assert len(one.notes) == 1
            # The server knows of a session, as it would of another agent's.
            with pytest.raises(DeniedError, match="other database roles"):
                await one.claim("fourth", "ann", "reader")
            assert pg_state(server, "ann").endswith(" reader writer")
        await until(lambda: not one.notes, "the user to be deactivated")
        assert pg_state(server, "ann") == 'f|"teleport-auto-user"'
        assert [told.kind for told in one.told] == [codes.DB_SESSION_USER_DEACTIVATE]
        expected = {"sid": "of-the-session", "username": "ann", "delete": False, "success": True}
        assert one.told[0].fields == expected
        await one.claim("again", "ann", "reader")
        assert pg_state(server, "ann") == 't|"teleport-auto-user" reader'
        one.release("again", "ann")
        await one.users.close()
        assert pg_state(server, "ann") == 'f|"teleport-auto-user"'

    monkeypatch.setattr(limits, "OTHERS_LEAVE_S", 0.5)
    run(story())


def test_dropped_unless_something_depends_on_it(server: Server, tmp_path: Path) -> None:
    async def story() -> None:
        one = pg_agent(server, tmp_path / "notes")
        await one.claim("s", "bob", drop=True)
        one.release("s", "bob")
        await until(lambda: not one.notes, "the user to be dropped")
        assert pg_state(server, "bob") == ""
        await one.claim("s", "bob", "reader", drop=True)
        server.admin("CREATE TABLE of_bob (); ALTER TABLE of_bob OWNER TO bob", "shop")
        one.release("s", "bob")
        await until(lambda: not one.notes, "the user to be locked")
        assert pg_state(server, "bob") == 'f|"teleport-auto-user"'
        assert [told.fields["delete"] for told in one.told] == [True, False]
        await one.users.close()

    run(story())


def test_names_stay_names_and_users_of_others_stay_theirs(server: Server, tmp_path: Path) -> None:
    """Attack A26."""

    async def story() -> None:
        one = pg_agent(server, tmp_path / "notes")
        for name in ("taken", "postgres"):
            before = pg_state(server, name)
            with pytest.raises(DeniedError, match="no member of teleport-auto-user"):
                await one.claim("s", name, "reader")
            assert pg_state(server, name) == before
        with pytest.raises(DeniedError, match="admin user"):
            await one.claim("s", ADMIN)
        with pytest.raises(InputError):
            await one.claim("s", "x" * 64)
        assert one.notes == []  # nothing was begun, so there is nothing to look after
        with pytest.raises(UnavailableError, match="does not exist"):
            await one.claim("s", "eve", "no such role")
        assert pg_state(server, "eve") == ""
        hostile = ('a" SUPERUSER; DROP ROLE reader; --', "Ann", "ann ", "host=evil sslmode=disable", "ünï")
        for name in hostile:
            await one.claim("s", name, "reader")
            assert pg_state(server, name) == 't|"teleport-auto-user" reader', name
            one.release("s", name)
        await one.users.close()
        for name in hostile:
            assert pg_state(server, name) == 'f|"teleport-auto-user"', name
        assert server.admin("SELECT count(*) FROM pg_roles WHERE rolsuper", "postgres").strip() == "1"

    run(story())


def test_a_killed_agent_leaves_nothing_after_its_next_start(server: Server, tmp_path: Path) -> None:
    made_active(agent("postgres", f"127.0.0.1:{server.port}", tmp_path / "notes"))
    assert pg_state(server, "cleo") == 't|"teleport-auto-user" reader'
    assert len(list((tmp_path / "notes").iterdir())) == 1

    async def story() -> None:
        next_start = pg_agent(server, tmp_path / "notes")
        await until(lambda: not next_start.notes, "the user to be deactivated")
        assert pg_state(server, "cleo") == 'f|"teleport-auto-user"'
        assert [told.fields["sid"] for told in next_start.told] == ["of-the-session"]
        await next_start.users.close()

    run(story())


def test_a_server_that_is_away_is_asked_again(server: Server, tmp_path: Path) -> None:
    async def story() -> None:
        one = pg_agent(server, tmp_path / "notes")
        await one.claim("s", "dan", "reader")
        server.admin(f'ALTER ROLE "{ADMIN}" NOLOGIN', "postgres")
        one.release("s", "dan")
        await until(lambda: one.told, "the failure to be told")
        assert one.told[0].kind is codes.DB_SESSION_USER_DEACTIVATE_FAIL
        server.admin(f'ALTER ROLE "{ADMIN}" LOGIN', "postgres")
        await until(lambda: not one.notes, "the user to be deactivated")
        assert pg_state(server, "dan") == 'f|"teleport-auto-user"'
        await one.users.close()

    run(story())


def test_a_note_that_would_be_too_long_is_kept_without_its_database(tmp_path: Path) -> None:
    served = agent("postgres", "127.0.0.1:1", tmp_path).database
    tls = msgspec.structs.replace(served.spec.tls, ca_cert="x" * limits.JOURNAL_FILE_MAX)
    long = msgspec.structs.replace(served, spec=msgspec.structs.replace(served.spec, tls=tls))
    journal = Journal(tmp_path / "notes", logging.getLogger("users"))
    assert journal.open() == []
    for user, database in (("ann", served), ("bob", long)):
        journal.keep(Entry(database="db", user=user, drop=True, served=database, fields={}))
    assert {entry.user: entry.served for entry in journal.open()} == {"ann": served, "bob": None}
