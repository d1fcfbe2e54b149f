"""MariaDB, Redis and ClickHouse by the programs alone: native clients, the public port, an agent."""

from __future__ import annotations

import contextlib
import re
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import pytest
import yaml

from tests.harness.cluster import BIN, Cluster, Person, run
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


@pytest.fixture(scope="module")
def world() -> Iterator[World]:
    with contextlib.ExitStack() as stack:
        cluster = stack.enter_context(Cluster.running(services=("auth", "proxy")))
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
    process = subprocess.Popen(
        [BIN / "tsh", "proxy", "db", "--tunnel", "clickhouse"], env=ann.env, stdout=subprocess.PIPE, text=True
    )
    try:
        assert process.stdout is not None
        match = re.search(r"127\.0\.0\.1:(\d+)", process.stdout.readline())
        assert match
        url = f"http://127.0.0.1:{match[1]}/"
        assert run("curl", "-sS", "-d", "select user from system.processes", url).ok().out == "alice\n"
        assert "Code: 516" in run("curl", "-sS", "-u", "bill:x", "-d", "select 1", url).ok().out
    finally:
        process.terminate()
        process.wait(20)
        if process.stdout is not None:
            process.stdout.close()
    cluster.wait_event("db.session.query", db_query="select user from system.processes")
    cluster.wait_event("db.session.start", code="TDB00W", db_user="bill")
