"""The Database Service in front of a real PostgreSQL, with the clients that people use."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest
import sqlalchemy as sa

from pkgs.agents.db.engine import Detail, Fact, Failed, Outcome, Statement
from pkgs.common.errors import DeniedError, TrustError, UnavailableError
from tests.harness.wait import wait_for
from tests.integration.postgres_kit import Server, Service, identity_in, postgres, psql, serving

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


def fields(facts: list[Fact], kind: str) -> list[dict[str, object]]:
    return [dict(fact.fields) for fact in facts if isinstance(fact, Detail) and fact.kind == kind]


def test_psql_through_the_tunnel_and_with_the_users_own_certificate(
    service: Service, identity: dict[str, object]
) -> None:
    for how in ({}, identity):
        service.forget()
        done = psql(service, "-c", "SELECT current_user, 6 * 7", "-c", "SELECT 1/0", **how)
        assert done.stdout == "alice|42\n"
        assert "division by zero" in done.stderr and done.returncode == 1
        service.settle()
        assert service.facts == [
            Statement("SELECT current_user, 6 * 7"),
            Outcome(1),
            Statement("SELECT 1/0"),
            Failed("division by zero", "22012"),
            Outcome(0, success=False),
        ]
        assert [(asked.user, asked.database, asked.agent) for asked in service.asked] == [
            ("alice", "shop", "psql")
        ]
    prefer = psql(service, "-c", "SELECT 1", sslmode="disable", gssencmode="prefer")
    assert prefer.returncode == 0


def test_meta_commands_copy_and_server_settings_reach_psql(service: Service, tmp_path: Path) -> None:
    done = psql(service, "-c", "\\d customers", "-c", "\\encoding", "-c", "\\echo :SERVER_VERSION_NUM")
    assert "email|text" in done.stdout and "UTF8" in done.stdout and "15" in done.stdout
    out = tmp_path / "customers.csv"
    done = psql(
        service,
        *("-c", f"\\copy customers TO {out} CSV", "-c", "CREATE TEMP TABLE again (LIKE customers)"),
        *("-c", f"\\copy again FROM {out} CSV", "-c", "SELECT count(*) FROM again"),
    )
    assert done.stdout.endswith("COPY 100\n100\n"), done
    service.settle()
    assert Outcome(100) in service.facts


def test_refusals_are_errors_that_say_what_to_do(service: Service) -> None:
    eve = psql(service, "-c", "SELECT 1", user="eve")
    assert 'FATAL:  you may not be "eve"' in eve.stderr
    quoted = psql(service, "-c", "SELECT 1", user="Alice")
    assert 'you may not be "Alice"' in quoted.stderr
    elsewhere = psql(service, "-c", "SELECT 1", dbname="template1")
    assert 'in "template1"' in elsewhere.stderr
    password = psql(service, "-c", "SELECT 1", user="guarded")
    assert "asks for a password by SCRAM" in password.stderr and "HINT:" in password.stderr
    unknown = psql(service, "-c", "SELECT 1", user="nobody")
    assert 'FATAL:  role "nobody" does not exist' in unknown.stderr
    copied = subprocess.run(
        ("psql", "-X", service.dsn(sslmode="disable", replication="true"), "-c", "IDENTIFY_SYSTEM"),
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert "replication connections are not served" in copied.stderr
    service.settle()
    kinds = [type(error) for error in service.errors]
    assert kinds[:4] == [DeniedError, DeniedError, DeniedError, TrustError]
    assert issubclass(kinds[4], UnavailableError) and kinds[5] is DeniedError


def test_names_are_fields_and_never_become_connection_parameters(service: Service) -> None:
    """Attack A26."""
    service.databases += ("shop host=evil sslmode=disable",)
    with pytest.raises(psycopg.OperationalError, match="does not exist"):
        psycopg.connect(service.dsn(dbname="shop host=evil sslmode=disable", sslmode="disable"))
    for user in ("alice ", "ALICE", '"alice"', "ali\u0441e"):
        with pytest.raises(psycopg.OperationalError, match="you may not be"):
            psycopg.connect(host="127.0.0.1", port=service.port, user=user, dbname="shop", sslmode="disable")


def test_psycopg_binary_parameters_pipelines_and_copy(service: Service) -> None:
    with psycopg.connect(service.dsn(sslmode="disable"), autocommit=True) as connection:
        row = connection.execute(
            "SELECT %b::int4 + 1, %b::text, %b::numeric, %s::date", (41, "grüße", 1.5, "2020-02-03")
        ).fetchone()
        assert row is not None and row[:2] == (42, "grüße")
        wait_for(lambda: Outcome(1) in service.facts, what="the facts of the first statement")
        (bound,) = fields(service.facts, "postgres.statements.bind")
        parameters = bound["parameters"]
        assert isinstance(parameters, tuple)
        assert parameters[1] == "grüße" and parameters[3] == "2020-02-03" and len(parameters) == 4

        with connection.pipeline():
            many = [connection.execute("SELECT %s::int", (index,)) for index in range(200)]
        assert [cursor.fetchone() for cursor in many] == [(index,) for index in range(200)]

        with pytest.raises(psycopg.errors.DivisionByZero), connection.pipeline():
            connection.execute("SELECT 1")
            connection.execute("SELECT 1/0")
            connection.execute("SELECT 2")
        assert connection.execute("SELECT 3").fetchone() == (3,)

        cursor = connection.cursor()
        cursor.execute("CREATE TEMP TABLE t (a int, b text)")
        with cursor.copy("COPY t FROM STDIN") as copying:
            for index in range(5000):
                copying.write_row((index, "x" * 100))
        with cursor.copy("COPY t TO STDOUT (FORMAT binary)") as copying:
            assert sum(len(part) for part in copying) > 500_000
        wait_for(lambda: service.facts.count(Outcome(5000)) == 2, what="the facts of both copies")

        # More answers are outstanding than are kept: the client waits, and nothing is lost.
        cursor.execute("TRUNCATE t")
        cursor.executemany("INSERT INTO t VALUES (%s, 'y')", ((index,) for index in range(60_000)))
        assert connection.execute("SELECT count(*) FROM t").fetchone() == (60_000,)

        prepared = [connection.execute("SELECT %s::int8", (index,), prepare=True) for index in range(3)]
        assert [cursor.fetchone() for cursor in prepared] == [(index,) for index in range(3)]
        assert len(fields(service.facts, "postgres.statements.parse")) < len(
            fields(service.facts, "postgres.statements.bind")
        )

        with connection.transaction(), connection.cursor(name="server_side") as named:
            named.execute("SELECT * FROM generate_series(1, 1000)")
            named.itersize = 100
            assert sum(value for (value,) in named) == 500_500


@pytest.mark.parametrize("cursor", [psycopg.Cursor, psycopg.ClientCursor], ids=["extended", "simple"])
def test_sqlalchemy(service: Service, cursor: type[psycopg.Cursor[object]]) -> None:
    url = sa.URL.create(
        "postgresql+psycopg",
        username="alice",
        host="127.0.0.1",
        port=service.port,
        database="shop",
        query={"sslmode": "disable"},
    )
    engine = sa.create_engine(url, connect_args={"cursor_factory": cursor})
    try:
        customers = sa.Table("customers", sa.MetaData(), autoload_with=engine)
        with engine.begin() as connection:
            chosen = sa.select(customers.c.name).where(customers.c.id.in_((1, 2))).order_by(customers.c.id)
            assert connection.execute(chosen).scalars().all() == ["name 1", "name 2"]
            with pytest.raises(sa.exc.IntegrityError), connection.begin_nested():
                connection.execute(sa.insert(customers), [{"id": 1000}, {"id": 1}])
            assert connection.execute(sa.select(sa.func.count()).select_from(customers)).scalar() == 100
    finally:
        engine.dispose()


def test_listen_and_notify(service: Service) -> None:
    with (
        psycopg.connect(service.dsn(sslmode="disable"), autocommit=True) as listening,
        psycopg.connect(service.dsn(sslmode="disable"), autocommit=True) as talking,
    ):
        listening.execute("LISTEN news")
        talking.execute("NOTIFY news, 'hello'")
        (heard,) = listening.notifies(timeout=20, stop_after=1)
        assert (heard.channel, heard.payload, heard.pid) == ("news", "hello", talking.info.backend_pid)


@pytest.mark.needs("pgbench", "pg_dump", "pg_restore")
def test_pgbench_and_a_dump_restored(service: Service, server: Server, tmp_path: Path) -> None:
    env = {**os.environ, "PGSSLMODE": "disable"}
    common = ("-h", "127.0.0.1", "-p", str(service.port), "-U", "alice")

    def run(*command: str) -> str:
        done = subprocess.run(command, capture_output=True, text=True, env=env, timeout=120)
        assert done.returncode == 0, done.stderr
        return done.stdout

    server.admin("CREATE DATABASE bench OWNER alice; CREATE DATABASE again OWNER alice", "postgres")
    service.databases += ("bench", "again")
    run("pgbench", *common, "-i", "-q", "bench")
    for mode in ("simple", "extended", "prepared"):
        done = run("pgbench", *common, "-M", mode, "-c", "4", "-t", "50", "bench")
        assert "number of transactions actually processed: 200/200" in done
    dump = tmp_path / "bench.dump"
    run("pg_dump", *common, "-Fc", "-f", str(dump), "bench")
    run("pg_restore", *common, "-d", "again", "--no-owner", str(dump))
    assert server.admin("SELECT count(*) FROM pgbench_accounts", "again") == "100000\n"
