"""Command lines: how soon `tsh` starts and speaks, and how long ten thousand nodes take."""

from __future__ import annotations

import asyncio
import json
import os
import socket
import subprocess
import sys
import time
import uuid
from datetime import UTC, datetime, timedelta
from pathlib import Path

from pkgs.auth.backend.sqlite import SqliteBackend
from pkgs.auth.state.store import create_operation
from pkgs.common.resources.kinds import Node, ServerSpec
from pkgs.common.resources.metadata import Metadata
from pkgs.common.runtime.paths import backend_dir
from tests.bench.report import Row, median
from tests.harness.cluster import BIN, Cluster, Person
from tests.harness.ports import free_port

NODES = 10_000


def _wall(argv: list[str], env: dict[str, str], rounds: int) -> float:
    times = []
    for _ in range(rounds):
        began = time.perf_counter()
        done = subprocess.run(argv, env=env, capture_output=True, timeout=120)
        times.append(time.perf_counter() - began)
        assert done.returncode == 0, done.stderr.decode()
    return median(times)


def first_byte_s(alice: Person, rounds: int) -> float:
    """Seconds from the start of `tsh ls` to its first byte on the wire, against a listener of our own."""
    port = free_port()
    home = alice.home / ".tsh"
    profile = next(home.glob("*.yaml"))
    original = profile.read_text()
    profile.write_text(original.replace(str(alice.cluster.web_port), str(port)))
    times = []
    try:
        with socket.create_server(("127.0.0.1", port)) as server:
            for _ in range(rounds):
                began = time.perf_counter()
                process = subprocess.Popen(
                    [str(BIN / "tsh"), "ls"],
                    env=alice.env,
                    stdout=subprocess.DEVNULL,
                    stderr=subprocess.DEVNULL,
                )
                server.settimeout(20)
                peer, _ = server.accept()
                with peer:
                    peer.settimeout(20)
                    assert peer.recv(1)
                    times.append(time.perf_counter() - began)
                process.kill()
                process.wait()
    finally:
        profile.write_text(original)
    return median(times)


def start_up(alice: Person, rounds: int) -> list[Row]:
    env = {k: v for k, v in os.environ.items() if not k.startswith("TELEPORT_")}
    python = _wall([sys.executable, "-c", "pass"], env, rounds) * 1e3
    version = _wall([str(BIN / "tsh"), "version"], env, rounds) * 1e3
    first = first_byte_s(alice, rounds) * 1e3
    return [
        Row("start of tsh version", version, "ms", python, "ms python -c pass", "<= 60 ms", version <= 60),
        Row(
            "tsh ls to its first byte sent",
            first,
            "ms",
            python,
            "ms python -c pass",
            "<= 150 ms",
            first <= 150,
        ),
    ]


def _node(n: int) -> Node:
    labels = {"env": ("prod", "test")[n % 2], "team": f"team-{n % 40}", "rack": f"r{n % 97}"}
    return Node(
        metadata=Metadata(
            name=str(uuid.UUID(int=n, version=4)),
            labels=labels,
            expires=datetime.now(UTC) + timedelta(hours=1),
        ),
        spec=ServerSpec(hostname=f"bulk-{n:05}", use_tunnel=True, version="0.1.0"),
    )


async def _store(directory: Path) -> None:
    """Nodes come from heartbeats only, so a benchmark puts them where a heartbeat would."""
    backend = SqliteBackend(directory)
    try:
        for start in range(0, NODES, 500):
            await backend.commit([create_operation(_node(n)) for n in range(start, start + 500)])
    finally:
        await backend.close()


def many_nodes(cluster: Cluster, alice: Person, rounds: int) -> list[Row]:
    cluster.daemons["auth"].stop()
    asyncio.run(_store(backend_dir(cluster.data_dir)))
    cluster.start_service("auth")
    listed = json.loads(alice.tsh("ls", "--format=json", timeout=120).ok().out)
    assert len(listed) >= NODES, len(listed)
    ls = _wall([str(BIN / "tsh"), "ls"], alice.env, rounds)
    get = _wall(
        [str(BIN / "tctl"), "-c", str(cluster.config), "get", "nodes", "--format=json"], cluster.env, rounds
    )
    return [
        Row(f"tsh ls of {NODES:,} nodes", ls, "s", goal="<= 1.0 s", met=ls <= 1.0),
        Row(f"tctl get nodes --format=json of {NODES:,}", get, "s", goal="<= 1.0 s", met=get <= 1.0),
    ]


def run(*, full: bool = True) -> list[Row]:
    cluster = Cluster(services=("auth", "proxy"), overrides={"teleport": {"log": {"severity": "INFO"}}})
    try:
        cluster.start()
        alice = cluster.login("alice", roles="access,editor")
        rounds = 15 if full else 5
        return [*start_up(alice, rounds), *many_nodes(cluster, alice, 5 if full else 2)]
    finally:
        cluster.destroy()
