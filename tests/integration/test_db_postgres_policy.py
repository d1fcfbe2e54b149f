"""Sessions that may only read, that do not see some columns, that may not take too much: on a real server."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from pkgs.agents.db.engine import Failed
from pkgs.common.resources.role import DbConditions, DbMask
from tests.integration.postgres_kit import Server, Service, postgres, serving

pytestmark = pytest.mark.needs("psql", "pg_isready")

ADMIN = """
CREATE FUNCTION sneak() RETURNS text LANGUAGE plpgsql AS
  $$ BEGIN SET default_transaction_read_only = off; RETURN 'done'; END $$;
CREATE TABLE subscribers (email text);
INSERT INTO subscribers VALUES ('public@example.com');
GRANT ALL ON subscribers TO alice;
CREATE VIEW by_name AS SELECT name, email FROM customers;
GRANT ALL ON by_name TO alice;
"""


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with postgres() as running:
        running.admin(ADMIN)
        yield running


@pytest.fixture(scope="module")
def running(server: Server) -> Iterator[Service]:
    with serving(f"127.0.0.1:{server.port}") as service:
        yield service


@pytest.fixture
def service(running: Service) -> Iterator[Service]:
    with running.for_one_test():
        yield running


def connect(service: Service, policy: DbConditions, **more: object) -> psycopg.Connection[tuple[object, ...]]:
    service.restrictions = policy
    return psycopg.connect(service.dsn(sslmode="disable", **more), autocommit=True)


READ_ONLY = DbConditions(read_only=True)


def test_a_session_that_may_only_read_reads(service: Service) -> None:
    with connect(service, READ_ONLY) as connection:
        assert connection.execute("SELECT count(*) FROM customers").fetchone() == (100,)
        assert connection.execute("SHOW default_transaction_read_only").fetchone() == ("on",)
        with connection.transaction():
            assert connection.execute("SELECT name FROM customers WHERE id = %s", (5,)).fetchone() == (
                "name 5",
            )
        connection.execute("DISCARD ALL")
        assert connection.execute("SHOW default_transaction_read_only").fetchone() == ("on",)
        with connection.cursor().copy("COPY customers TO STDOUT") as copying:
            assert sum(1 for _ in copying.rows()) == 100


@pytest.mark.parametrize(
    "options", ["-c default_transaction_read_only=off", "--default-transaction-read-only=off"]
)
def test_the_way_out_is_closed(service: Service, server: Server, options: str) -> None:
    with connect(service, READ_ONLY, options=options) as connection:
        for text in (
            "INSERT INTO customers VALUES (1000)",
            "SET default_transaction_read_only = off",
            "SELECT set_config('default_transaction_read_only', 'off', false)",
            "BEGIN READ WRITE",
            "DO $$ BEGIN DELETE FROM customers; END $$",
        ):
            with pytest.raises(psycopg.errors.ReadOnlySqlTransaction, match="may only read"):
                connection.execute(text)
        # What passes the reader of texts is stopped by the server.
        for text in ("WITH a AS (DELETE FROM customers RETURNING *) SELECT * FROM a", "SELECT 1 INTO x"):
            with pytest.raises(psycopg.errors.ReadOnlySqlTransaction, match="read-only transaction"):
                connection.execute(text)
        with connection.transaction():
            with pytest.raises(psycopg.errors.ReadOnlySqlTransaction), connection.transaction():
                connection.execute("DELETE FROM customers")
            assert connection.execute("SELECT 1").fetchone() == (1,)
    assert server.admin("SELECT count(*) FROM customers") == "100\n"


def test_a_function_that_opens_the_way_ends_the_session(service: Service) -> None:
    ended = pytest.raises(psycopg.errors.ReadOnlySqlTransaction, match="made it able to write")
    with connect(service, READ_ONLY) as connection, ended:
        connection.execute("SELECT sneak()")
    assert connection.broken
    service.settle()
    assert any(isinstance(fact, Failed) and fact.code == "25006" for fact in service.facts)


def test_pg_dump_and_psql_work_in_a_session_that_may_only_read(service: Service, tmp_path: Path) -> None:
    service.restrictions = READ_ONLY
    command = ("pg_dump", "-f", str(tmp_path / "dump"), service.dsn(sslmode="disable"))
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, env=dict(os.environ))
    assert done.returncode == 0, done.stderr
    assert "mail100@example.com" in (tmp_path / "dump").read_text()
    listed = subprocess.run(
        ("psql", "-XAt", service.dsn(sslmode="disable"), "-c", "\\d customers", "-c", "DROP TABLE customers"),
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert "email|text" in listed.stdout and "may only read: DROP" in listed.stderr


MASKED = DbConditions(mask=(DbMask(column="email", table="customers"), DbMask(column="b*")))


@pytest.mark.parametrize("binary", [False, True])
def test_columns_are_masked_in_text_and_binary(service: Service, binary: bool) -> None:
    with connect(service, MASKED) as connection:
        cursor = connection.cursor(binary=binary)
        row = cursor.execute("SELECT * FROM customers WHERE id = 7").fetchone()
        assert row == (7, "name 7", "***", None, None)
        row = cursor.execute(
            "SELECT email AS harmless, s.e FROM customers, (SELECT email AS e FROM customers) s"
        ).fetchone()
        assert row == ("***", "***")
        assert cursor.execute("SELECT c FROM customers c WHERE id = 1").fetchone() == (None,)
        assert cursor.execute("SELECT (c).email FROM customers c WHERE id = 1").fetchone() == ("***",)
        cursor.execute("PREPARE p AS SELECT email AS e FROM customers WHERE id = 1")
        assert cursor.execute("EXECUTE p").fetchone() == ("***",)
        cursor.execute("DEALLOCATE p")
        changed = "UPDATE customers SET name = name WHERE id = 1 RETURNING email AS e"
        assert cursor.execute(changed).fetchone() == ("***",)
        # Another table, which the rule does not name.
        assert cursor.execute("SELECT email FROM subscribers").fetchone() == ("public@example.com",)
        for _ in range(8):  # prepared on the way: from then on it is not described
            row = cursor.execute("SELECT email, id FROM customers WHERE id = %s", (8,)).fetchone()
            assert row == ("***", 8)
        with connection.pipeline():
            several = [connection.execute("SELECT email FROM customers WHERE id = %s", (n,)) for n in (1, 2)]
            assert [one.fetchone() for one in several] == [("***",), ("***",)]
        with connection.transaction(), connection.cursor(name="server_side", binary=binary) as named:
            named.execute("SELECT email FROM customers")
            assert {value for (value,) in named} == {"***"}
        with pytest.raises(psycopg.errors.InsufficientPrivilege, match="COPY TO would carry"):
            connection.execute("COPY customers TO STDOUT")
        with pytest.raises(psycopg.errors.InvalidTextRepresentation) as refused:
            connection.execute("SELECT email::int FROM customers")
        assert "example.com" not in str(refused.value)


def test_what_masks_do_not_promise(service: Service, server: Server) -> None:
    """Kept here so that docs/database-postgres.md stays true."""
    with connect(service, MASKED) as connection:
        computed = connection.execute("SELECT upper(email) FROM customers WHERE id = 1").fetchone()
        assert computed == ("MAIL1@EXAMPLE.COM",)
        assert connection.execute("SELECT email FROM by_name WHERE name = 'name 1'").fetchone() == (
            "mail1@example.com",
        )
        assert connection.execute("SELECT id FROM customers WHERE email LIKE 'mail7@%'").fetchone() == (7,)
        connection.execute("CREATE TEMP TABLE kept AS SELECT email AS e FROM customers WHERE id = 1")
        assert connection.execute("SELECT e FROM kept").fetchone() == ("mail1@example.com",)
        with pytest.raises(psycopg.errors.DivisionByZero):
            connection.execute("SELECT 1 / (length(email) - 17) FROM customers WHERE id = 1")
        plan = connection.execute("EXPLAIN SELECT 1 FROM customers WHERE email < 'mail5'").fetchone()
        assert plan is not None and "rows=" in str(plan[0])
    server.admin("ANALYZE customers")
    with connect(service, DbConditions(mask=MASKED.mask, mask_computed=True)) as connection:
        text = "SELECT upper(email), count(*), row(c.*)::text FROM customers c WHERE id = 1 GROUP BY c.id"
        assert connection.execute(text).fetchone() == ("***", 1, "***")
        numbers = connection.execute("SELECT ascii(email), length(email) FROM customers WHERE id = 1")
        assert numbers.fetchone() == (ord("m"), 17)
        kept = connection.execute("SELECT histogram_bounds FROM pg_stats WHERE attname = 'email'").fetchone()
        assert "@example.com" in str(kept)


def test_operators_of_the_clients_own_do_not_change_what_is_masked(service: Service, server: Server) -> None:
    server.admin(
        "CREATE SCHEMA evil; GRANT USAGE ON SCHEMA evil TO alice;"
        "CREATE FUNCTION evil.no(text, text) RETURNS bool LANGUAGE sql AS 'SELECT false';"
        "CREATE OPERATOR evil.~~ (LEFTARG = text, RIGHTARG = text, FUNCTION = evil.no)"
    )
    with connect(service, MASKED, options="-c search_path=evil,public,pg_catalog") as connection:
        assert connection.execute("SELECT email FROM customers LIMIT 1").fetchone() == ("***",)


def test_rows_and_bytes_of_an_answer_are_limited(service: Service) -> None:
    with connect(service, DbConditions(rows_max=1000)) as connection:
        for _ in range(3):
            with pytest.raises(psycopg.errors.ConfigurationLimitExceeded, match="more than 1000 rows"):
                connection.execute("SELECT generate_series(1, 1000000000)")
            assert connection.execute("SELECT count(*) FROM customers").fetchone() == (100,)
        copy = "COPY (SELECT generate_series(1, 100000)) TO STDOUT"
        limited = pytest.raises(psycopg.errors.ConfigurationLimitExceeded)
        with limited, connection.cursor().copy(copy) as copying:
            list(copying)
        assert len(connection.execute("SELECT generate_series(1, 1000)").fetchall()) == 1000
    with connect(service, DbConditions(bytes_max=100_000)) as connection:
        with pytest.raises(psycopg.errors.ConfigurationLimitExceeded, match="more than 100000 bytes"):
            connection.execute("SELECT repeat('x', 10000000)")
        assert connection.execute("SELECT 1").fetchone() == (1,)
