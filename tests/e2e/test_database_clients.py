"""Real clients through the whole cluster, by the programs alone: databases that `tsh up` keeps open, an agent
behind a tunnel, servers that let in by the cluster's certificates."""

from __future__ import annotations

import contextlib
import json
import re
import shlex
import signal
import socket
import ssl
import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import mysql.connector
import psycopg
import pymysql
import pytest
import redis as redis_py
import sqlalchemy
import yaml

from tests.harness import totp
from tests.harness.cluster import BIN, Cluster, Person, Run, run
from tests.harness.databases import certificate, serve, write_config
from tests.harness.ports import free_port
from tests.harness.wait import wait_for
from tests.integration.db_servers import Server, clickhouse, mariadb, redis
from tests.integration.postgres_kit import postgres

pytestmark = pytest.mark.needs(
    *(
        "mariadbd",
        "mariadb",
        "mariadb-dump",
        "redis-server",
        "redis-cli",
        "redis-benchmark",
        "psql",
        "pgbench",
    ),
    *("pg_dump", "pg_restore", "clickhouse-server", "curl"),
)
ROLES = """
kind: role
version: v7
metadata: {name: dba}
spec:
  allow:
    db_labels: {'*': '*'}
    db_users: [alice]
    db_names: ['*']
---
kind: role
version: v7
metadata: {name: careful}
spec:
  options: {require_session_mfa: yes}
  allow:
    db_labels: {'*': '*'}
    db_users: [alice]
    db_names: ['*']
"""
ENCRYPT = """
kind: session_recording_config
version: v2
metadata: {name: session-recording-config}
spec: {mode: node, encryption: {enabled: true}}
"""
SERVERS: dict[str, tuple[str, Callable[..., contextlib.AbstractContextManager[Server]]]] = {
    "mysql": ("mysql", mariadb),
    "redis": ("redis", redis),
    "clickhouse": ("clickhouse-http", clickhouse),
}
FLEET = {"fleet": "yes"}


@dataclass
class World:
    cluster: Cluster
    ann: Person
    careful: dict[str, Person] = field(default_factory=dict)
    """People whose sessions each need a code."""
    codes: dict[str, int] = field(default_factory=dict)
    """The step of the last code that each of them used."""

    def code(self, person: Person) -> str:
        """One that was not used yet, as soon as there is one; logging in took that of the step ahead."""
        last = self.codes[person.name]
        wait_for(lambda: int(time.time()) // 30 >= last, what="the next one-time code", deadline_s=40)
        self.codes[person.name] = last + 1
        step_now = int(time.time()) // 30
        return totp.code(person.otp_secret, step_offset=last + 1 - step_now)

    def add_careful(self, name: str) -> None:
        self.careful[name] = self.cluster.login(name, "careful")
        # That of the step ahead, in whose half minute this may be by now.
        self.codes[name] = int(time.time()) // 30 + 1

    def facts(self, name: str) -> dict[str, str]:
        """What `tsh db config` says, with a certificate for alice."""
        found: dict[str, str] = json.loads(
            self.ann.tsh("db", "config", name, "--db-user=alice", "--format=json").ok().out
        )
        return found

    def command(self, name: str) -> list[str]:
        return shlex.split(
            self.ann.tsh("db", "config", name, "--db-user=alice", "--format=cmd").ok().out.strip()
        )


@pytest.fixture(scope="module")
def world() -> Iterator[World]:
    with contextlib.ExitStack() as stack:
        port = {"proxy_service": {"mysql_listen_addr": f"127.0.0.1:{free_port()}"}}
        cluster = stack.enter_context(
            Cluster.running(services=("auth", "proxy"), second_factor="otp", overrides=port)
        )
        server = stack.enter_context(postgres(files=certificate(cluster, "postgres")))
        entry: dict[str, Any] = {"protocol": "postgres", "uri": f"127.0.0.1:{server.port}"}
        databases = [
            {**entry, "name": "pg", "static_labels": FLEET},
            {**entry, "name": "pg-again", "static_labels": FLEET},
            {**entry, "name": "down", "static_labels": FLEET, "uri": "127.0.0.1:1"},
        ]
        for name, (protocol, start) in SERVERS.items():
            folder = cluster.dir / name
            folder.mkdir()
            made = stack.enter_context(start(folder, certificate(cluster, name)))
            databases.append({"name": name, "protocol": protocol, "uri": made.uri})
        config = write_config(cluster, *databases)
        cluster.tctl("create", stdin=ROLES).ok()
        serve(cluster, config, *(database["name"] for database in databases))
        made_world = World(cluster, cluster.login("ann", "dba"))
        # Logged in now, so that their next codes are there when the tests come to them.
        for name in ("mona", "nora"):
            made_world.add_careful(name)
        yield made_world


@dataclass
class Up:
    process: subprocess.Popen[str]
    found: list[dict[str, Any]]
    said: Path
    """Its status lines."""

    def port(self, name: str) -> int:
        return int(next(each["port"] for each in self.found if each["db"] == name))


@pytest.fixture(scope="module")
def up(world: World) -> Iterator[Up]:
    """`tsh up` with databases of four protocols, one that is not there, one whose port is taken at first."""
    ann = world.ann
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        file = ann.home / "up.yaml"
        entries: list[dict[str, Any]] = [
            {"db": "pg", "user": "alice", "name": "shop", "port": free_port()},
            {"db": "mysql", "user": "alice", "name": "shop"},
            {"db": "redis", "user": "alice"},
            {"db": "clickhouse", "user": "alice"},
            {"db": "nothing"},
            {"db": "pg-again", "user": "alice", "name": "shop", "port": taken.getsockname()[1]},
        ]
        file.write_text(yaml.safe_dump({"databases": entries}))
        said = ann.home / "up.log"
        with said.open("wb") as log:
            process = subprocess.Popen(
                [BIN / "tsh", "up", "--format=json", file],
                env=ann.env, stdout=subprocess.PIPE, stderr=log, text=True,
            )  # fmt: skip
        try:
            assert process.stdout is not None
            text = ""
            for piece in process.stdout:
                text += piece
                if piece.startswith("]"):
                    break
            up = Up(process, json.loads(text), said)
            assert [each["db"] for each in up.found] == [entry["db"] for entry in entries]
            taken.close()
            yield up
            process.send_signal(signal.SIGINT)
            assert process.wait(20) == 0
        finally:
            if process.poll() is None:
                process.kill()
            process.wait(10)
            if process.stdout is not None:
                process.stdout.close()


def test_trouble_of_one_is_told_and_does_not_stop_the_others(world: World, up: Up) -> None:
    by_name = {each["db"]: each for each in up.found}
    assert "no database 'nothing'" in by_name["nothing"]["error"] and "port" not in by_name["nothing"]
    assert "cannot listen on" in by_name["pg-again"]["error"]
    assert by_name["mysql"]["protocol"] == "mysql" and by_name["mysql"]["user"] == "alice"
    # It comes when its port is free.
    wait_for(lambda: "pg-again    127.0.0.1:" in up.said.read_text(), what="the port", deadline_s=60)
    assert up.process.poll() is None


def test_postgresql_with_its_programs_and_libraries(world: World, up: Up, tmp_path: Path) -> None:
    cluster, port = world.cluster, up.port("pg")
    common = ("-h", "127.0.0.1", "-p", str(port), "-U", "alice")
    env = {**world.ann.env, "PGSSLMODE": "disable"}

    def ran(*words: str | Path, **more: Any) -> Run:
        return run(words[0], *common, *words[1:], env=env, **more).ok()

    ran("pgbench", "-i", "-q", "-s", "1", "shop")
    for mode in ("simple", "extended", "prepared"):
        assert "processed: 40/40" in ran("pgbench", "-M", mode, "-c", "2", "-t", "20", "-n", "shop").out
    dump = tmp_path / "shop.dump"
    ran("pg_dump", "-Fc", "-f", dump, "shop")
    ran("psql", "-qc", "drop table customers, pgbench_accounts", "-d", "shop")
    ran("pg_restore", "--clean", "--if-exists", "--no-owner", "-d", "shop", dump)
    counted = "select (select count(*) from customers), (select count(*) from pgbench_accounts)"
    assert ran("psql", "-XAtc", counted, "-d", "shop").out == "100|100000\n"
    # A script on the standard input of tsh's own way to psql.
    world.ann.tsh("db", "login", "pg", "--db-user=alice", "--db-name=shop").ok()
    script = world.ann.tsh("db", "connect", "pg", stdin="copy customers(id) to stdout;\n").ok()
    assert script.out.splitlines()[-1] == "100"

    where = f"host=127.0.0.1 port={port} user=alice dbname=shop sslmode=disable"
    with psycopg.connect(where) as connection:
        rows = connection.execute(
            "select name, %s::text from customers where id = %s",
            ("it's \x1b[2J", 7),
            prepare=True,
            binary=True,
        ).fetchall()
        assert rows == [("name 7", "it's \x1b[2J")]
        with connection.cursor().copy("copy (select generate_series(1, 1000)) to stdout") as copy:
            assert len(list(copy.rows())) == 1000
        with pytest.raises(psycopg.errors.UndefinedTable):
            connection.execute("select * from missing")
    engine = sqlalchemy.create_engine(f"postgresql+psycopg://alice@127.0.0.1:{port}/shop")
    with engine.begin() as begun:
        found = begun.execute(sqlalchemy.text("select name from customers where id = :id"), {"id": 9})
        assert found.scalar() == "name 9"
    engine.dispose()
    bound = cluster.wait_event("db.session.postgres.statements.bind", parameters=["it's \x1b[2J", "7"])
    cluster.wait_event("db.session.end", sid=bound["sid"])
    shown = played(world.ann, bound["sid"])
    assert "> parse _pg3_0: select name, $1::text" in shown
    # Played, it moves no terminal.
    assert r"  $1 = it's \x1b[2J" in shown and "  $2 = 7\n" in shown and "  1000 rows" in shown
    assert 'error 42P01: relation "missing" does not exist' in shown
    lines = world.ann.tsh("play", "--format=json", bound["sid"]).ok().out.splitlines()
    assert any("  $2 = 7" in json.loads(each).get("text", "") for each in lines)
    recordings = json.loads(world.ann.tsh("recordings", "ls", "--format=json").ok().out)
    assert ("db", "pg") in {(each["kind"], each["hostname"]) for each in recordings}


def played(person: Person, sid: str, format: str = "text") -> str:
    """A recording, once it has arrived."""

    def found() -> str:
        done = person.tsh("play", f"--format={format}", sid)
        return done.out if done.code == 0 else ""

    return wait_for(found, what=f"the recording of {sid}", every_s=0.3)


def test_mariadb_with_its_programs_and_libraries(world: World, up: Up, tmp_path: Path) -> None:
    ann, cluster, port = world.ann, world.cluster, up.port("mysql")
    ann.tsh("db", "login", "mysql", "--db-user=alice", "--db-name=shop").ok()
    done = ann.tsh("db", "connect", "mysql", "--execute=select current_user(), database()").ok()
    assert "alice@%\tshop" in done.out
    failed = ann.tsh("db", "connect", "mysql", "--execute=select * from nothing")
    assert failed.code == 1 and "ERROR 1146 (42S02)" in failed.err
    denied = ann.tsh("db", "connect", "mysql", "--db-user=issued", "--execute=select 1")
    assert "ERROR 1045 (28000)" in denied.err and "access to database mysql denied" in denied.err, denied
    cluster.wait_event("db.session.query", db_query="select current_user(), database()", db_user="alice")
    cluster.wait_event("db.session.query.failed", db_error_code="1146")
    cluster.wait_event("db.session.start", code="TDB00W", db_user="issued")

    where: dict[str, Any] = {"host": "127.0.0.1", "port": port, "user": "alice", "database": "shop"}
    with pymysql.connect(**where) as connection, connection.cursor() as cursor:
        cursor.executemany("insert into parts values (%s, %s)", [(n, f"part {n}") for n in range(1, 501)])
        connection.commit()
    words = ("--host=127.0.0.1", f"--port={port}", "--protocol=TCP", "--skip-ssl", "--user=alice")
    dump = run("mariadb-dump", *words, "--single-transaction", "shop", env=ann.env).ok().out
    run("mariadb", *words, "-e", "create database again", env=ann.env).ok()
    run("mariadb", *words, "again", stdin=dump, env=ann.env).ok()
    counted = run("mariadb", *words, "-Ne", "select count(*), max(name) from again.parts", env=ann.env).ok()
    assert counted.out == "500\tpart 99\n"
    engine = sqlalchemy.create_engine(f"mysql+pymysql://alice@127.0.0.1:{port}/again")
    with engine.begin() as begun:
        found = begun.execute(sqlalchemy.text("select name from parts where id = :id"), {"id": 7})
        assert found.scalar() == "part 7"
    engine.dispose()


def test_redis_with_its_programs_and_libraries(world: World, up: Up) -> None:
    ann, cluster, port = world.ann, world.cluster, up.port("redis")
    ann.tsh("db", "login", "redis", "--db-user=alice").ok()
    assert ann.tsh("db", "connect", "redis", "--execute=acl whoami").ok().out == "alice\n"
    ann.tsh("db", "connect", "redis", "--execute=acl setuser bill >s3cret").ok()
    assert "NOPERM" in ann.tsh("db", "connect", "redis", "--execute=monitor").out
    cluster.wait_event("db.session.query", db_query="acl setuser bill >***", db_service="redis")
    for pipeline in ("1", "16"):
        argv = ("redis-benchmark", "-p", str(port), "-n", "500", "-c", "5", "-P", pipeline, "-t", "get,set")
        assert run(*argv, "--csv", env=ann.env).ok().out.count('"') > 8
    for protocol in (2, 3):
        with redis_py.Redis(port=port, protocol=protocol, decode_responses=True) as client:
            client.set("greeting", "hello")
            with client.pipeline(transaction=True) as pipe:
                assert pipe.incr("count").get("greeting").execute()[1] == "hello"
            with client.pubsub(ignore_subscribe_messages=False) as heard:
                heard.subscribe("news")
                assert heard.get_message(timeout=10)["type"] == "subscribe"  # type: ignore[index]
                client.publish("news", "extra")
                assert heard.get_message(timeout=10)["data"] == "extra"  # type: ignore[index]


def test_clickhouse_through_a_local_port(world: World, up: Up) -> None:
    url = f"http://127.0.0.1:{up.port('clickhouse')}/"
    assert run("curl", "-sS", "-d", "select user from system.processes", url).ok().out == "alice\n"
    assert "Code: 516" in run("curl", "-sS", "-u", "bill:x", "-d", "select 1", url).ok().out
    world.cluster.wait_event("db.session.query", db_query="select user from system.processes")
    world.cluster.wait_event("db.session.start", code="TDB00W", db_user="bill")


@contextlib.contextmanager
def local_port(person: Person, *words: str) -> Iterator[int]:
    """The port of a running `tsh proxy db`."""
    process = subprocess.Popen(
        [BIN / "tsh", "proxy", "db", *words], env=person.env, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    try:
        match = re.search(r"127\.0\.0\.1:(\d+)", process.stdout.readline())
        assert match
        yield int(match[1])
    finally:
        process.terminate()
        process.wait(20)
        process.stdout.close()


def pymysql_at(facts: dict[str, str], host: str) -> pymysql.Connection:
    """A connection that believes only an agent of the cluster, under this name."""
    context = ssl.create_default_context(cafile=facts["ca"])
    context.load_cert_chain(facts["cert"], facts["key"])
    made = pymysql.connect(host=host, user="alice", database="shop", ssl=context, defer_connect=True)
    made.connect(socket.create_connection((facts["proxy"], int(facts["port"])), 10))
    return made


def test_mysql_clients_by_their_own_tls(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """The proxy greets, the client asks for TLS and names the database in its hello."""
    ann, cluster = world.ann, world.cluster
    facts = world.facts("mysql")
    assert facts["host"] == "mysql.db.demo" and int(facts["port"]) != cluster.web_port
    assert f"MYSQL_TCP_PORT={facts['port']}" in ann.tsh("db", "env", "mysql").ok().out
    with pymysql_at(facts, facts["host"]) as client, client.cursor() as cursor:
        cursor.execute("select current_user(), database(), 'by its own TLS'")
        assert cursor.fetchall() == (("alice@%", "shop", "by its own TLS"),)
        # By the number in the proxy's greeting; the error says that it has been done.
        with pytest.raises(pymysql.err.OperationalError, match=r"1927|2013"):
            client.kill(client.thread_id())
    with monkeypatch.context() as patched:
        lookup = socket.getaddrinfo
        patched.setattr(
            socket, "getaddrinfo", lambda host, *args, **named: lookup("127.0.0.1", *args, **named)
        )
        with contextlib.closing(
            mysql.connector.connect(
                host=facts["host"], port=int(facts["port"]), user="alice", database="shop", use_pure=True,
                ssl_ca=facts["ca"], ssl_cert=facts["cert"], ssl_key=facts["key"],
                ssl_verify_cert=True, ssl_verify_identity=True,
            )
        ) as other:  # fmt: skip
            cursor = other.cursor()
            cursor.execute("select current_user()")
            assert cursor.fetchall() == [("alice@%",)]
    # A pipe of tsh leads to the same port.
    with local_port(ann, "mysql") as port, pymysql_at({**facts, "port": str(port)}, facts["host"]) as client:
        client.ping()
    for name in ("redis", "nothing"):
        with pytest.raises(pymysql.err.OperationalError, match=f"1045.*access to database {name} denied"):
            pymysql_at(facts, f"{name}.db.demo")
    # MariaDB's own client sends no name, so that it can only be told what to do.
    where = ("mariadb", "--no-defaults", f"-h{facts['proxy']}", f"-P{facts['port']}", "-ualice", "-eselect 1")
    files = (f"--ssl-ca={facts['ca']}", f"--ssl-cert={facts['cert']}", f"--ssl-key={facts['key']}")
    nameless = run(*where, *files)
    assert nameless.code == 1 and "ERROR 1105" in nameless.err and "'tsh db connect'" in nameless.err
    plain = run(*where, "--skip-ssl", "--password=secret")
    assert plain.code == 1 and "ERROR 3159" in plain.err and "'tsh db config'" in plain.err
    cluster.wait_event("db.session.query", db_query="select current_user(), database(), 'by its own TLS'")
    cluster.wait_event("db.session.start", code="TDB00W", db_service="nothing", user="ann")


def test_redis_and_clickhouse_by_their_own_tls(world: World) -> None:
    """At the public port, as `tsh db config` says it, but for a DNS record that leads to the proxy."""
    port = str(world.cluster.web_port)
    words = [word.replace("redis.db.demo", "127.0.0.1") for word in world.command("redis")]
    words[words.index("--sni") + 1] = "redis.db.demo"
    assert run(*words, "acl", "whoami").ok().out == "alice\n"
    words[words.index("--sni") + 1] = "clickhouse.db.demo"
    assert "access to database clickhouse denied" in run(*words, "acl", "whoami").out
    words = [*world.command("clickhouse"), "-sS", "--connect-to", f"::127.0.0.1:{port}", "-d"]
    assert run(*words, "select user from system.processes").ok().out == "alice\n"


def test_one_statement_on_a_fleet_of_which_one_is_down(world: World) -> None:
    ann, out = world.ann, world.ann.home / "out"
    flags = ("--db-user=alice", "--db-name=shop", "--no-confirm")
    words = ("db", "exec", "select 'every' || 'where'", "--labels=fleet=yes", *flags)
    done = ann.tsh(*words, "--parallel=3", f"--output-dir={out}")
    assert done.code == 2 and done.out.count("everywhere") == 2, done
    assert "1 of 3 databases failed: down (exit status 2)" in done.err
    assert "[down] " in done.err and "127.0.0.1:1" in done.err
    summary = json.loads((out / "summary.json").read_text())
    assert summary["success"] is False
    assert [(each["name"], each["status"]) for each in summary["databases"]] == [
        *(("down", 2), ("pg", 0), ("pg-again", 0)),
    ]
    assert "everywhere" in (out / "pg.stdout").read_text()


def test_each_session_needs_a_code(world: World) -> None:
    """Where roles demand a second factor for each: asked for once, good for a minute, or for a tunnel."""
    cluster, mona, nora = world.cluster, world.careful["mona"], world.careful["nora"]
    whom = ("--db-user=alice", "--db-name=shop")
    for person in (mona, nora):
        assert "Each session needs a one-time code" in person.tsh("db", "login", "pg", *whom).ok().out
    # With the certificate in the files, and by what asks for no codes.
    facts = json.loads(mona.tsh("db", "config", "pg", "--format=json").ok().out)
    tls = f"sslmode=verify-full sslrootcert={facts['ca']} sslcert={facts['cert']} sslkey={facts['key']}"
    where = f"host={facts['host']} hostaddr=127.0.0.1 port={cluster.web_port} user=alice dbname=shop {tls}"
    refused = run("psql", where, "-c", "select 1", env=mona.env)
    assert refused.code == 2 and "a one-time code is needed; 'tsh db connect'" in refused.err, refused
    refused = mona.tsh("db", "exec", "select 1", "--dbs=pg", *whom, "--no-confirm")
    assert refused.code == 1 and "each session with pg needs a one-time code" in refused.err
    refused = mona.tsh("db", "connect", "pg", "--execute=select 1")
    assert refused.code == 2 and "use --otp-stdin" in refused.err
    words = ("db", "connect", "pg", "--otp-stdin", "--execute=select 6 * 7")
    code = world.code(mona)
    assert "42" in mona.tsh(*words, stdin=code).ok().out
    again = mona.tsh(*words, stdin=code)
    assert again.code == 1 and "wrong, or was used" in again.err
    started = cluster.wait_event("db.session.start", user="mona", success=True)
    shown = cluster.wait_event("mfa_auth_challenge.validate", user="mona", success=True)
    assert started["with_mfa"] == shown["mfa_device"]["mfa_device_uuid"] and shown["db_service"] == "pg"
    # The same code for every connection of a tunnel.
    process = subprocess.Popen(
        [BIN / "tsh", "proxy", "db", "--tunnel", "--otp-stdin", "pg"],
        env=nora.env, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    try:
        assert process.stdin is not None and process.stdout is not None
        process.stdin.write(world.code(nora) + "\n")
        process.stdin.flush()
        match = re.search(r"127\.0\.0\.1:(\d+)", process.stdout.readline())
        assert match
        plain = f"host=127.0.0.1 port={match[1]} user=alice dbname=shop sslmode=disable"
        for _ in range(2):
            assert run("psql", "-XAt", plain, "-c", "select 42", env=nora.env).ok().out == "42\n"
    finally:
        process.terminate()
        process.communicate(timeout=20)


def test_an_auditor_plays_what_was_encrypted(world: World) -> None:
    cluster = world.cluster
    eve = cluster.login("eve", "auditor")
    cluster.tctl("create", "-f", stdin=ENCRYPT).ok()

    def encrypted() -> str:
        """A session whose recording is, once the agent has heard of it."""
        statement = f"select 'hid' || 'den', {time.time_ns()}"
        world.ann.tsh("db", "connect", "pg", "--db-user=alice", "--db-name=shop", f"-e{statement}").ok()
        sid = str(cluster.wait_event("db.session.query", db_query=statement)["sid"])
        assert statement in played(eve, sid)
        raw = next(cluster.data_dir.rglob(f"{sid}*.rec")).read_bytes()
        return sid if raw.startswith(b"\x89OAREC\r\n\x00\x02") else ""

    sid = wait_for(encrypted, what="an encrypted recording", every_s=0.5, deadline_s=60)
    asked = world.ann.tsh("play", "--format=text", sid)
    assert asked.code == 0 and "'hid' || 'den'" in asked.out
    assert world.careful["mona"].tsh("play", sid).code == 1
