"""MariaDB, Redis and ClickHouse by the programs alone: native clients, the proxy's ports, an agent."""

from __future__ import annotations

import contextlib
import json
import re
import shlex
import socket
import ssl
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import mysql.connector
import pymysql
import pytest
import yaml

from tests.harness.cluster import BIN, Cluster, Person, run
from tests.harness.ports import free_port
from tests.harness.wait import wait_for
from tests.integration.db_servers import Server, clickhouse, mariadb, redis

pytestmark = pytest.mark.needs(
    *("mariadbd", "mariadb", "redis-server", "redis-cli", "clickhouse-server", "curl"),
)
ROLE = """
kind: role
version: v7
metadata: {name: dba}
spec:
  allow:
    db_labels: {'*': '*'}
    db_users: [alice]
    db_names: ['*']
"""
SERVERS: dict[str, tuple[str, Callable[..., contextlib.AbstractContextManager[Server]]]] = {
    "mysql": ("mysql", mariadb),
    "redis": ("redis", redis),
    "clickhouse": ("clickhouse-http", clickhouse),
}


@dataclass
class World:
    cluster: Cluster
    ann: Person

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
        cluster = stack.enter_context(Cluster.running(services=("auth", "proxy"), overrides=port))
        databases = []
        for name, (protocol, start) in SERVERS.items():
            folder = cluster.dir / name
            folder.mkdir()
            out = cluster.dir / f"{name}-cert"
            cluster.tctl("auth", "sign", f"--format={name}", "--host=127.0.0.1", f"--out={out}").ok()
            names = {"server.pem": ".crt", "server.key": ".key", "ca.pem": ".cas"}
            files = {file: out.with_name(out.name + ending).read_text() for file, ending in names.items()}
            server = stack.enter_context(start(folder, files))
            databases.append({"name": name, "protocol": protocol, "uri": server.uri})
        document = {
            "version": "v3",
            "teleport": {
                "nodename": "dbhost",
                "data_dir": str(cluster.dir / "db"),
                "proxy_server": cluster.proxy_addr,
                "auth_token": cluster.token("db"),
                "ca_pin": [cluster.ca_pin()],
            },
            **{f"{name}_service": {"enabled": False} for name in ("auth", "proxy", "ssh")},
            "db_service": {"enabled": True, "databases": databases},
        }
        config = cluster.dir / "db.yaml"
        config.write_text(yaml.safe_dump(document))
        cluster.tctl("create", stdin=ROLE).ok()
        cluster.daemon("db", BIN / "teleport-db", "-c", config)

        def listed() -> bool:
            assert cluster.daemons["db"].alive(), cluster.log("db")
            return {server["metadata"]["name"] for server in cluster.get("db_server")} == set(SERVERS)

        wait_for(listed, what=f"the databases to be listed; {cluster.log('db')}", every_s=0.3, deadline_s=40)
        yield World(cluster, cluster.login("ann", "dba"))


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


def test_mariadb_with_its_own_client(world: World) -> None:
    ann, cluster = world.ann, world.cluster
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


def test_redis_with_its_own_client(world: World) -> None:
    ann, cluster = world.ann, world.cluster
    ann.tsh("db", "login", "redis", "--db-user=alice").ok()
    assert ann.tsh("db", "connect", "redis", "--execute=acl whoami").ok().out == "alice\n"
    ann.tsh("db", "connect", "redis", "--execute=acl setuser bill >s3cret").ok()
    assert "NOPERM" in ann.tsh("db", "connect", "redis", "--execute=monitor").out
    cluster.wait_event("db.session.query", db_query="acl setuser bill >***", db_service="redis")


def test_clickhouse_through_a_local_port(world: World) -> None:
    ann, cluster = world.ann, world.cluster
    ann.tsh("db", "login", "clickhouse", "--db-user=alice").ok()
    with local_port(ann, "--tunnel", "clickhouse") as port:
        url = f"http://127.0.0.1:{port}/"
        assert run("curl", "-sS", "-d", "select user from system.processes", url).ok().out == "alice\n"
        assert "Code: 516" in run("curl", "-sS", "-u", "bill:x", "-d", "select 1", url).ok().out
    cluster.wait_event("db.session.query", db_query="select user from system.processes")
    cluster.wait_event("db.session.start", code="TDB00W", db_user="bill")


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
