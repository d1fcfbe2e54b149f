"""Permissions on objects for users made on demand, at a real PostgreSQL: given, exact, and taken away."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from pkgs.agents.db.users import limits
from pkgs.agents.db.users.accounts import Objects
from pkgs.common.access.dbobjects import ImportRules, compile_permissions
from pkgs.common.errors import DeniedError, LimitExceededError, UnavailableError
from pkgs.common.resources.presets import import_all_objects
from pkgs.common.resources.role import DbPermission
from tests.integration.databases_kit import until
from tests.integration.db_users_kit import ADMIN, Agent, pg_agent, pg_session, pg_setup, pg_state
from tests.integration.postgres_kit import Server, postgres
from tests.unit.net.loops import run

pytestmark = pytest.mark.needs("psql", "pg_isready")

SCHEMA = f"""
CREATE ROLE owners NOLOGIN;
GRANT owners, alice TO "{ADMIN}";
CREATE DATABASE farm;
\\c farm
GRANT CREATE ON DATABASE farm TO owners;
SET ROLE owners;
CREATE SCHEMA animals; CREATE SCHEMA "od""d; DROP SCHEMA animals; --";
CREATE TABLE animals.cows (id int, name text); CREATE TABLE animals.pigs (id int);
CREATE TABLE animals.secret_feed (id int);
CREATE TABLE "od""d; DROP SCHEMA animals; --"."t""; DROP TABLE x" (id int);
CREATE VIEW animals.fat_cows AS SELECT * FROM animals.cows;
CREATE MATERIALIZED VIEW animals.counted AS SELECT 1;
CREATE FUNCTION animals.milk(cow int, "odd ""name" text) RETURNS int LANGUAGE sql AS 'SELECT 1';
REVOKE EXECUTE ON FUNCTION animals.milk FROM PUBLIC;
"""
GRANTS = """
SELECT coalesce(string_agg(t, ' ' ORDER BY t), '') FROM (
  SELECT table_schema || '.' || table_name || ':' || privilege_type FROM information_schema.table_privileges
  WHERE grantee = $name$%s$name$
  UNION ALL SELECT routine_schema || '.' || routine_name || ':' || privilege_type
  FROM information_schema.routine_privileges WHERE grantee = $name$%s$name$
  UNION ALL SELECT nspname || ':' || privilege_type FROM pg_namespace, aclexplode(nspacl) a
  JOIN pg_roles r ON r.oid = a.grantee WHERE rolname = $name$%s$name$) x(t)
"""


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with postgres() as running:
        running.admin(pg_setup(), "postgres")
        running.admin(SCHEMA, "postgres")
        yield running


def grants(server: Server, user: str, database: str = "farm") -> str:
    return server.admin(GRANTS % (user, user, user), database).strip()


def wanted(
    one: Agent, *allow: DbPermission, deny: tuple[DbPermission, ...] = (), inside: str = "farm"
) -> Objects:
    permissions = compile_permissions(allow, deny, {})
    return Objects(inside, permissions, ImportRules([import_all_objects()], one.database, inside))


def on(permissions: str, **match: str) -> DbPermission:
    return DbPermission(match=match, permissions=permissions.split())


READS = on("select", schema="animals"), on("EXECUTE", name="mi*")
NO_SECRETS = (on("*", name="secret*"),)
TABLES = on("SELECT", object_kind="table")


def test_exactly_what_roles_permit_and_nothing_afterwards(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def story() -> None:
        one = pg_agent(server, tmp_path / "notes")
        reads = wanted(one, *READS, deny=NO_SECRETS)
        given = await one.claim("first", "ann", objects=reads)
        assert given.objects == {"table": 2, "view": 2, "procedure": 1}
        assert given.permissions == {"SELECT": {"table": 2, "view": 2}, "EXECUTE": {"procedure": 1}}
        expected = (
            "cows:SELECT animals.fat_cows:SELECT animals.milk:EXECUTE animals.pigs:SELECT animals:USAGE"
        )
        assert grants(server, "ann") == f"animals.{expected}"
        with pg_session(server, "ann", tmp_path, "farm") as connection:
            connection.execute("SELECT * FROM animals.cows")
            connection.execute("SELECT * FROM animals.counted, animals.milk(1, '')")
            for refused in ("INSERT INTO animals.cows VALUES (1)", "SELECT * FROM animals.secret_feed"):
                with pytest.raises(psycopg.errors.InsufficientPrivilege), connection.transaction():
                    connection.execute(refused)
            # The same again sees what is new; anything else would change what that session may.
            server.admin("SET ROLE owners; CREATE TABLE animals.hens (id int)", "farm")
            await one.claim("second", "ann", objects=reads)
            assert "animals.hens:SELECT" in grants(server, "ann")
            other = pg_agent(server, tmp_path / "other notes")
            for terms in (wanted(other, on("INSERT", schema="animals")), None):
                with pytest.raises(DeniedError, match="other database roles or permissions"):
                    await other.claim("third", "ann", objects=terms)
            one.release("first", "ann")
        one.release("second", "ann")
        await until(lambda: not one.notes and not other.notes, "the user to be locked")
        assert (pg_state(server, "ann"), grants(server, "ann")) == ('f|"teleport-auto-user"', "")
        await one.users.close()
        await other.users.close()

    monkeypatch.setattr(limits, "OTHERS_LEAVE_S", 0.5)
    run(story())


def test_serial_columns_can_be_filled(server: Server, tmp_path: Path) -> None:
    server.admin("SET ROLE owners; CREATE TABLE animals.geese (id serial, name text)", "farm")

    async def story() -> None:
        one = pg_agent(server, tmp_path / "notes")
        await one.claim("s", "fay", drop=True, objects=wanted(one, on("INSERT", name="geese")))
        with pg_session(server, "fay", tmp_path, "farm") as connection:
            connection.execute("INSERT INTO animals.geese (name) VALUES ('x')")
        one.release("s", "fay")
        await one.users.close()
        assert pg_state(server, "fay") == ""

    run(story())


def test_in_several_databases_of_a_server_and_dropped(server: Server, tmp_path: Path) -> None:
    """Attack A26: names of objects stay names."""

    async def story() -> None:
        one = pg_agent(server, tmp_path / "notes")
        for inside in ("farm", "shop"):
            await one.claim(inside, "bob", drop=True, objects=wanted(one, TABLES, inside=inside))
        assert 'od"d; DROP SCHEMA animals; --.t"; DROP TABLE x:SELECT' in grants(server, "bob")
        assert grants(server, "bob", "shop") == "public.customers:SELECT"
        for session in ("farm", "shop"):
            one.release(session, "bob")
        await one.users.close()
        assert pg_state(server, "bob") == ""

    run(story())


def test_what_others_granted_is_taken_or_told(server: Server, tmp_path: Path) -> None:
    async def story() -> None:
        one = pg_agent(server, tmp_path / "notes")
        reads = wanted(one, *READS, deny=NO_SECRETS)
        await one.claim("first", "eve", drop=True, objects=reads)
        # By the owner, and so the admin user's to take: while the session lasts it is in force.
        gift = (
            "SET ROLE owners; GRANT ALL ON animals.secret_feed TO eve;"
            "GRANT SELECT (id) ON animals.pigs TO eve"
        )
        server.admin(gift, "farm")
        await one.claim("second", "eve", drop=True, objects=reads)
        assert "secret" not in grants(server, "eve")
        server.admin(gift, "farm")
        for session in ("first", "second"):
            one.release(session, "eve")
        await until(lambda: not one.notes, "the user to be dropped")
        assert pg_state(server, "eve") == ""
        # By a superuser, on something of his own: the admin user cannot take it, and so nothing is given.
        await one.claim("third", "eve", drop=True, objects=reads)
        server.admin("CREATE TABLE animals.of_root (); GRANT SELECT ON animals.of_root TO eve", "farm")
        with pytest.raises(UnavailableError, match=r"somebody else gave the user .*animals\.of_root"):
            await one.claim("fourth", "eve", drop=True, objects=reads)
        one.release("third", "eve")
        await until(lambda: not one.notes, "the user to be locked")
        assert pg_state(server, "eve") == 'f|"teleport-auto-user"'
        assert grants(server, "eve") == "animals.of_root:SELECT"
        assert one.told[-1].fields["delete"] is False
        with pytest.raises(UnavailableError, match="permission denied for table of_root"):
            await one.claim("fifth", "dan", objects=wanted(one, TABLES))
        assert pg_state(server, "dan") == ""  # nothing of it was done
        one.release("fifth", "dan")
        server.admin("DROP TABLE animals.of_root", "farm")
        await one.users.close()

    run(story())


def test_what_a_vanished_agent_left_is_taken_by_the_next_that_gives_something_else(
    server: Server, tmp_path: Path
) -> None:
    async def story() -> None:
        gone = pg_agent(server, tmp_path / "gone")
        for inside in ("farm", "shop"):
            await gone.claim(inside, "gus", objects=wanted(gone, TABLES, inside=inside))
        one = pg_agent(server, tmp_path / "notes")
        await one.claim("s", "gus", "reader")
        assert pg_state(server, "gus") == 't|"teleport-auto-user" reader'
        assert (grants(server, "gus"), grants(server, "gus", "shop")) == ("", "")
        one.release("s", "gus")
        await one.users.close()
        for inside in ("farm", "shop"):
            gone.release(inside, "gus")
        await gone.users.close()

    run(story())


def test_bounds(server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "OBJECTS_MAX", 5)

    async def story() -> None:
        one = pg_agent(server, tmp_path / "notes")
        with pytest.raises(LimitExceededError, match="more than 5 tables, views and procedures"):
            await one.claim("s", "cleo", objects=wanted(one, TABLES))
        assert pg_state(server, "cleo") == ""
        with pytest.raises(UnavailableError, match="does not exist"):
            await one.claim("s", "cleo", objects=wanted(one, TABLES, inside="nowhere"))
        await one.users.close()

    run(story())
