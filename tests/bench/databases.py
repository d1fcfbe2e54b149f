"""A cluster of real processes with a database behind its agent, and the ways to it that are measured.

    tsh     client - tsh's local port ==TLS== proxy ==tunnel== agent ==TLS== server
    SNI     client ==TLS of its own, by the name in the hello== proxy ==tunnel== agent ==TLS== server

Every statement is audited and the session recorded, as they are by default: that is in the figures, and so is
the Auth Service, which takes the events while they come in. All of it runs on the cores of one machine.
"""

from __future__ import annotations

import contextlib
import json
import re
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from tests.bench.report import median
from tests.harness.cluster import BIN, Cluster, Person
from tests.harness.databases import certificate, serve, write_config
from tests.unit.net import certs

ROLE = """
kind: role
version: v7
metadata: {name: dba}
spec:
  allow: {db_labels: {env: prod}, db_users: [alice], db_names: [shop]}
"""
SERVICE = "bench"


@dataclass(frozen=True)
class Files:
    """Of the client's own TLS, as paths."""

    cert: str
    key: str
    ca: str


@dataclass(frozen=True)
class World:
    cluster: Cluster
    person: Person
    local_port: int
    """Of `tsh proxy db --tunnel`."""
    tsh_pid: int
    files: Files
    """That `tsh db config` names, for the public port."""
    own: Files
    """With which `alice` is let in at the server itself."""

    @property
    def sni(self) -> str:
        return f"{SERVICE}.db.{self.cluster.name}"


@contextlib.contextmanager
def signed() -> Iterator[tuple[Cluster, dict[str, str]]]:
    """A cluster, and the files for a server of it: one that also lets in the tests' own certificates."""
    with Cluster.running(services=("auth", "proxy")) as cluster:
        files = certificate(cluster, "db", "127.0.0.1,localhost")
        files["ca.pem"] += certs.roots()
        yield cluster, files


@contextlib.contextmanager
def reached(cluster: Cluster, protocol: str, port: int) -> Iterator[World]:
    """The server at this port, behind an agent, and a user with a local port to it."""
    entry = {"name": SERVICE, "protocol": protocol, "uri": f"127.0.0.1:{port}"}
    config = write_config(cluster, {**entry, "static_labels": {"env": "prod"}})
    cluster.tctl("create", stdin=ROLE).ok()
    serve(cluster, config, SERVICE)
    person = cluster.login("ann", "dba")
    name = ("--db-name=shop",) if protocol == "postgres" else ()
    person.tsh("db", "login", SERVICE, "--db-user=alice", *name).ok()
    told = json.loads(person.tsh("db", "config", SERVICE, "--format=json").ok().out)
    process = subprocess.Popen(
        [BIN / "tsh", "proxy", "db", "--tunnel", SERVICE], env=person.env, stdout=subprocess.PIPE, text=True
    )
    try:
        assert process.stdout is not None
        match = re.search(r"127\.0\.0\.1:(\d+)", process.stdout.readline())
        assert match
        yield World(
            cluster,
            person,
            int(match[1]),
            process.pid,
            Files(told["cert"], told["key"], told["ca"]),
            _own(cluster.dir),
        )
    finally:
        process.terminate()
        process.wait(20)
        assert process.stdout is not None
        process.stdout.close()


def _own(folder: Path) -> Files:
    mine = certs.pair("alice")
    made = {"own.pem": mine.cert, "own.key": mine.key.decode(), "roots.pem": certs.roots()}
    for name, text in made.items():
        (folder / name).touch(0o600)
        (folder / name).write_text(text)
    return Files(*(str(folder / name) for name in made))


Measured = dict[str, float]


def rounds(ways: list[str], count: int, measure: Callable[[str], Measured]) -> dict[str, Measured]:
    """The medians of what was measured on each way, which take turns."""
    found: dict[str, list[Measured]] = {way: [] for way in ways}
    for _ in range(count):
        for way in ways:
            found[way].append(measure(way))
    return {
        way: {name: median([one[name] for one in each]) for name in each[0]} for way, each in found.items()
    }
