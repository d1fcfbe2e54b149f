"""Databases by the programs alone: a real PostgreSQL, psql, the public port, an agent behind a tunnel."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass

import psycopg
import pytest
import yaml

from tests.harness.cluster import BIN, Cluster, Person, Run, run
from tests.harness.wait import wait_for
from tests.integration.postgres_kit import Server, postgres

pytestmark = pytest.mark.needs("psql")
ROLE = """
kind: role
version: v7
metadata: {name: dba}
spec:
  allow:
    db_labels: {env: prod}
    db_users: [alice]
    db_names: [shop]
"""

CAREFUL = """
kind: role
version: v7
metadata: {name: careful}
spec:
  allow:
    db_labels: {env: prod}
    db: {read_only: yes, mask: [{column: 'e*', table: customers}], rows_max: 9}
"""


@dataclass
class World:
    cluster: Cluster
    server: Server
    ann: Person

    def psql(self, port: int, *args: str, stdin: str = "", **settings: str) -> Run:
        """Directly, with nothing but what `tsh db env` says about TLS."""
        words = " ".join(f"{name}='{value}'" for name, value in settings.items())
        return run("psql", "-XAt", f"port={port} {words}", *args, env=self.ann.env, stdin=stdin)


@pytest.fixture(scope="module")
def world() -> Iterator[World]:
    with contextlib.ExitStack() as stack:
        cluster = stack.enter_context(Cluster.running(services=("auth", "proxy")))
        out = cluster.dir / "pg"
        told = cluster.tctl(
            "auth", "sign", "--format=postgres", "--host=127.0.0.1,localhost", f"--out={out}"
        ).ok()
        assert "hostssl all" in told.out
        names = {"server.pem": ".crt", "server.key": ".key", "ca.pem": ".cas"}
        files = {name: out.with_name(out.name + ending).read_text() for name, ending in names.items()}
        server = stack.enter_context(postgres(files=files))
        entry = {"protocol": "postgres", "uri": f"127.0.0.1:{server.port}"}
        document = {
            "version": "v3",
            "teleport": {
                "nodename": "dbhost",
                "data_dir": str(cluster.dir / "db"),
                "proxy_server": cluster.proxy_addr,
                "auth_token": cluster.token("db"),
                "ca_pin": [cluster.ca_pin()],
                "log": {"severity": "DEBUG"},
            },
            **{f"{name}_service": {"enabled": False} for name in ("auth", "proxy", "ssh")},
            "db_service": {
                "enabled": True,
                "databases": [{**entry, "name": "pg1", "static_labels": {"env": "prod"}}],
                "resources": [{"labels": {"kind": "dynamic"}}],
            },
        }
        config = cluster.dir / "db.yaml"
        config.write_text(yaml.safe_dump(document))
        cluster.tctl("create", stdin=ROLE).ok()
        dynamic = {
            "kind": "db",
            "metadata": {"name": "pg2", "labels": {"env": "prod", "kind": "dynamic"}},
            "spec": entry,
        }
        cluster.tctl("create", stdin=yaml.safe_dump(dynamic)).ok()
        cluster.daemon("db", BIN / "teleport-db", "-c", config)

        def listed() -> bool:
            assert cluster.daemons["db"].alive(), cluster.log("db")
            return {server["metadata"]["name"] for server in cluster.get("db_server")} == {"pg1", "pg2"}

        wait_for(listed, what=f"the databases to be listed; {cluster.log('db')}", every_s=0.3, deadline_s=40)
        yield World(cluster, server, cluster.login("ann", "dba"))


def local_port(person: Person, *flags: str) -> tuple[subprocess.Popen[str], int]:
    """A running `tsh proxy db`, and its port."""
    process = subprocess.Popen(
        [BIN / "tsh", "proxy", "db", *flags, "pg1"], env=person.env, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    match = re.search(r"127\.0\.0\.1:(\d+)", process.stdout.readline())
    assert match
    return process, int(match[1])


def end(process: subprocess.Popen[str]) -> None:
    process.terminate()
    process.wait(20)
    assert process.stdout is not None
    process.stdout.close()


def test_from_the_listing_to_the_record(world: World) -> None:
    ann, cluster = world.ann, world.cluster
    names = [d["metadata"]["name"] for d in json.loads(ann.tsh("db", "ls", "--format=json").ok().out)]
    assert {"pg1", "pg2"} <= set(names)
    assert "pg2" in cluster.tctl("db", "ls", "kind=dynamic").ok().out
    refused = ann.tsh("db", "login", "nothing", "--db-user=alice")
    assert refused.code == 1 and "no database 'nothing', or you may not use it" in refused.err
    assert "user is still to be said: --db-user" in ann.tsh("db", "login", "pg1").ok().out
    nobody = ann.tsh("db", "connect")
    assert nobody.code == 2 and "no database user is named for pg1; add --db-user" in nobody.err
    ann.tsh("db", "login", "pg1", "--db-user=alice", "--db-name=shop").ok()
    # The native client: a statement of the command line, and a script on its standard input.
    counted = ann.tsh("db", "connect", "pg1", "--execute=select count(*) from customers").ok()
    assert "100" in counted.out
    script = "\\set ON_ERROR_STOP 1\nselect 'first';\ncopy customers(id) to stdout;\nselect 1/0;\n"
    failed = ann.tsh("db", "connect", "pg1", stdin=script)
    assert failed.code == 3 and "division by zero" in failed.err and "\n100\n" in failed.out
    # Somebody else of the database, and a database that no role names: refused in psql's own words.
    for user, name in (("Alice", "shop"), ("postgres", "shop"), ("alice", "postgres")):
        whom = (f"--db-user={user}", f"--db-name={name}")
        denied = ann.tsh("db", "connect", "pg2", *whom, "--execute=select 1")
        assert denied.code == 2 and "access to database pg2 denied" in denied.err, denied
    ann.tsh("db", "logout", "pg2").ok()
    cluster.wait_event("db.session.start", code="TDB00W", db_user="Alice", db_service="pg2")
    cluster.wait_event("db.session.query", db_query="select count(*) from customers", db_user="alice")
    cluster.wait_event("db.session.query.failed", db_service="pg1")
    ended = cluster.wait_event("db.session.end", db_service="pg1")

    def played() -> str:
        done = ann.tsh("play", "--format=text", ended["sid"])
        return done.out if done.code == 0 else ""

    shown = wait_for(played, what="the recording", every_s=0.3)
    assert "select" in shown


def test_by_its_own_tls_through_the_public_port(world: World) -> None:
    """PostgreSQL's request for TLS on the public port, the name in the hello, the agent's own certificate."""
    ann, cluster = world.ann, world.cluster
    facts = json.loads(
        ann.tsh("db", "config", "pg1", "--db-user=alice", "--db-name=shop", "--format=json").ok().out
    )
    assert facts["host"] == "pg1.db.demo"
    tls = {
        "hostaddr": "127.0.0.1",
        "sslmode": "verify-full",
        "sslrootcert": facts["ca"],
        "sslcert": facts["cert"],
        "sslkey": facts["key"],
        "user": "alice",
        "dbname": "shop",
    }
    assert world.psql(cluster.web_port, "-c", "select 40 + 2", host="pg1.db.demo", **tls).ok().out == "42\n"
    # TLS from the first byte, as libpq from version 17 on can, which insists on the protocol's name in it.
    direct = {**tls, "host": "pg1.db.demo", "port": cluster.web_port, "sslnegotiation": "direct"}
    with psycopg.connect(**direct) as connection:  # type: ignore[arg-type]
        assert connection.execute("select 21 * 2").fetchone() == (42,)
    # The certificate for one database at the name of another, known or not.
    for host in ("pg2.db.demo", "nothing.db.demo"):
        other = world.psql(cluster.web_port, "-c", "select 1", host=host, **tls)
        assert other.code == 2 and f"access to database {host.partition('.')[0]} denied" in other.err
    login = {
        **tls,
        "sslcert": f"{ann.home}/.tsh/keys/127.0.0.1/ann.crt",
        "sslkey": f"{ann.home}/.tsh/keys/127.0.0.1/ann.key",
    }
    assert world.psql(cluster.web_port, "-c", "select 1", host="pg1.db.demo", **login).code == 2
    nobody = {name: value for name, value in tls.items() if name not in ("sslcert", "sslkey")}
    assert world.psql(cluster.web_port, "-c", "select 1", host="pg1.db.demo", **nobody).code == 2
    # The same through a local port that is a plain pipe to the proxy.
    process, port = local_port(ann)
    try:
        piped = world.psql(port, "-c", "select 6 * 7", host="pg1.db.demo", **tls)
        assert piped.ok().out == "42\n"
    finally:
        end(process)


def test_a_local_port_that_a_lock_closes(world: World) -> None:
    cluster = world.cluster
    bob = cluster.login("bob", "dba")
    bob.tsh("db", "login", "pg1", "--db-user=alice", "--db-name=shop").ok()

    process, port = local_port(bob, "--tunnel")
    try:
        plain = {"host": "127.0.0.1", "user": "alice", "dbname": "shop", "sslmode": "prefer"}
        assert world.psql(port, "-c", "select 7", **plain).ok().out == "7\n"
        process.send_signal(signal.SIGINT)
        assert process.wait(20) == 0
        assert process.stdout is not None
        process.stdout.close()
        process, again = local_port(bob, "--tunnel")
        assert again == port
        words = " ".join(f"{name}={value}" for name, value in plain.items())
        client = subprocess.Popen(
            ["psql", "-XAt", f"port={port} {words}"],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=bob.env,
        )  # fmt: skip
        try:
            assert client.stdin is not None and client.stdout is not None
            client.stdin.write("select 'here';\n")
            client.stdin.flush()
            assert client.stdout.readline() == "here\n"
            cluster.tctl("lock", "--user=bob", "--message=gone home").ok()
            ended = cluster.wait_event("db.session.end", user="bob", db_service="pg1")
            assert ended["user"] == "bob"
            out, err = client.communicate("select 'still here';\n", timeout=30)
            assert "gone home" in err and "still here" not in out
        finally:
            if client.poll() is None:
                client.kill()
            client.wait(10)
        refused = world.psql(port, "-c", "select 1", **plain)
        assert refused.code == 2 and "gone home" in refused.err
    finally:
        end(process)


def test_what_roles_hold_a_session_to(world: World) -> None:
    cluster = world.cluster
    refused = cluster.tctl("create", stdin=CAREFUL.replace("'e*'", "^e.*$"))
    assert refused.code == 2 and "spec.allow.db.mask[0].column: found '^e.*$'" in refused.err
    cluster.tctl("create", stdin=CAREFUL).ok()
    cal = cluster.login("cal", "dba")
    cal.tsh("db", "login", "pg1", "--db-user=alice", "--db-name=shop").ok()
    # The role beside it allows everything; it lifts nothing. Nor does the certificate of the login before.
    cluster.tctl("users", "update", "cal", "--set-roles=dba,careful").ok()
    cal.login().ok()
    settings = "\\pset format unaligned\n\\set VERBOSITY verbose\n"

    def psql(text: str) -> Run:
        return cal.tsh("db", "connect", "pg1", stdin=f"{settings}{text};\n")

    shown = psql("select id, email, pg_backend_pid() as pid from customers order by id limit 2").ok()
    pid = re.search(r"^1\|\*\*\*\|(\d+)\n2\|\*\*\*\|", shown.out, re.MULTILINE)
    assert pid, shown
    told = cluster.wait_event("db.session.query", user="cal", db_service="pg1")
    assert told["postgres_pid"] == int(pid[1])
    for text, error in (
        ("delete from customers", "25006: this session may only read"),
        ("select id from customers", "53400: the answer has more than 9 rows"),
        ("copy customers to stdout", "42501: columns are hidden from this session: COPY TO"),
    ):
        assert error in psql(text).err, psql(text)
    why = cluster.tctl("access", "explain", "--user=cal", "db", "alice@pg1/shop").ok().out
    words = "read_only, mask customers.e*, rows_max 9"
    assert (
        f"restricts db: {words}" in why and f"role careful restricts what the session may do: {words}" in why
    )
    less = cluster.dir / "less.yaml"
    less.write_text(CAREFUL.replace("rows_max: 9", "rows_max: 3"))
    changed = cluster.tctl("access", "diff", "-f", str(less), "--kind=db").out
    assert "~ cal db alice@pg2/shop and 1 more (" in changed, changed
    assert "rows_max 9; now" in changed and "rows_max 3)" in changed, changed
    assert world.server.admin("select count(*) from customers").strip() == "100"


def test_one_statement_on_several_databases(world: World) -> None:
    ann = world.ann
    out = ann.home / "out"
    flags = ("--db-user=alice", "--db-name=shop", "--parallel=2", "--no-confirm", f"--output-dir={out}")
    done = ann.tsh("db", "exec", "select 'everywhere'", "--dbs=pg1,pg2", *flags).ok()
    assert done.out.count("everywhere") == 2
    summary = json.loads((out / "summary.json").read_text())
    assert summary["databases"] == [{"name": "pg1", "status": 0}, {"name": "pg2", "status": 0}]
    assert summary["success"] is True
    missing = ann.tsh("db", "exec", "select 1", "--dbs=pg1,nothing", *flags[:2], "--no-confirm")
    assert missing.code == 1 and "no database 'nothing'" in missing.err
    assert os.access(out, os.R_OK)


def test_an_agent_that_is_killed_leaves_no_session_open(world: World) -> None:
    """An agent of this test's own, with one database."""
    cluster, ann = world.cluster, world.ann
    document = yaml.safe_load((cluster.dir / "db.yaml").read_text())
    document["teleport"] |= {"data_dir": str(cluster.dir / "db3"), "auth_token": cluster.token("db")}
    document["db_service"]["resources"] = []
    document["db_service"]["databases"][0]["name"] = "pg3"
    config = cluster.dir / "db3.yaml"
    config.write_text(yaml.safe_dump(document))
    agent = cluster.daemon("db3", BIN / "teleport-db", "-c", config)
    uploads = cluster.dir / "db3" / "log" / "upload-db"

    def works() -> bool:
        flags = ("--db-user=alice", "--db-name=shop", "--execute=select 1")
        return ann.tsh("db", "connect", "pg3", *flags).code == 0

    try:
        wait_for(works, what="the agent", every_s=0.3, deadline_s=30)
        client = subprocess.Popen(
            [BIN / "tsh", "db", "connect", "pg3"],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=ann.env,
        )  # fmt: skip
        try:
            assert client.stdin is not None and client.stdout is not None
            client.stdin.write("begin; delete from customers where id = 1 returning 'gone';\n")
            client.stdin.flush()
            while "gone" not in client.stdout.readline():
                assert client.poll() is None
            # What was shown is in a frame of the recording behind the first, of who it was.
            wait_for(
                lambda: any(part.read_bytes().count(b"\xf5\xa9FR") > 1 for part in uploads.glob("*.part")),
                what="the recording's next frame",
            )
            agent.kill()
            _, err = client.communicate("commit;\n", timeout=30)
            assert client.returncode != 0 and "closed the connection" in err
        finally:
            if client.poll() is None:
                client.kill()
            client.wait(10)
        left = "select count(*) from pg_stat_activity where usename = 'alice' and query like '%delete from%'"
        wait_for(lambda: world.server.admin(left).strip() == "0", what="the server to end the session")
        assert world.server.admin("select count(*) from customers where id = 1").strip() == "1"
        agent.start()
        ended = cluster.wait_event("db.session.end", reason="the service was killed")
        assert (ended["user"], ended["db_service"]) == ("ann", "pg3")

        def played() -> str:
            """What the agent had written before it was killed; sent by the one that came after."""
            return ann.tsh("play", "--format=text", ended["sid"]).out

        shown = wait_for(played, what="the recording", every_s=0.3)
        assert "returning 'gone'" in shown
        wait_for(works, what="the agent to be back", every_s=0.5, deadline_s=30)
    finally:
        agent.stop()
        del cluster.daemons["db3"]
