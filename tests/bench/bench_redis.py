"""Redis by `tsh` and by the client's own TLS, beside the server's own TLS and stunnel.

stunnel is where tsh's local port is: it takes plain connections and adds the client's TLS."""

from __future__ import annotations

import contextlib
import csv
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

from tests.bench.databases import Files, Measured, World, reached, rounds, signed
from tests.bench.report import Row
from tests.harness.ports import free_port
from tests.integration.db_servers import redis, running


def run(full: bool = True) -> list[Row]:
    """redis-benchmark with and without pipelining."""
    requests, count = (50_000, 5) if full else (5_000, 3)
    with tempfile.TemporaryDirectory() as name, signed() as (cluster, files):
        folder = Path(name)
        with (
            redis(folder, files) as server,
            reached(cluster, "redis", server.port) as world,
            _stunnel(folder, server.port, world.own) as stunnel,
        ):
            ways = _ways(world, server.port, stunnel)
            rows = _rows(ways, requests // 10, 1, 1, count)
            rows += _rows(ways, requests, 50, 1, count)
            return rows + _rows(ways, requests * 4, 50, 16, count)


Options = tuple[str, ...]


def _ways(world: World, direct: int, stunnel: int) -> dict[str, Options]:
    def tls(port: int, files: Files, host: str, *more: str) -> Options:
        own = ("--tls", "--sni", host, "--cert", files.cert, "--key", files.key, *more)
        return ("-p", str(port), *own)

    return {
        # The server's certificate is the cluster's, which need not be checked to be measured.
        "direct": tls(direct, world.own, "localhost", "--insecure"),
        "stunnel": ("-p", str(stunnel)),
        "tsh": ("-p", str(world.local_port)),
        "SNI": tls(world.cluster.web_port, world.files, world.sni, "--cacert", world.files.ca),
    }


@contextlib.contextmanager
def _stunnel(folder: Path, server: int, own: Files) -> Iterator[int]:
    port = free_port()
    config = folder / "stunnel.conf"
    config.write_text(
        f"""
foreground = yes
pid =
debug = err
[redis]
client = yes
accept = 127.0.0.1:{port}
connect = 127.0.0.1:{server}
cert = {own.cert}
key = {own.key}
"""
    )
    with running(("stunnel4", config), folder / "stunnel.log", port):
        yield port


def _rows(ways: dict[str, Options], requests: int, clients: int, pipeline: int, count: int) -> list[Row]:
    found = rounds(list(ways), count, lambda way: _measure(ways[way], requests, clients, pipeline))
    how = f"{clients} client{'s' if clients > 1 else ''}, {pipeline} at a time"
    rows = []
    for test in ("SET", "GET"):
        for way in ("tsh", "SNI"):
            what = f"redis-benchmark {test}, {how}, {way}"
            for other, name in (("stunnel", "stunnel"), ("direct", "direct TLS")):
                rows.append(Row(what, found[way][test], "/s", found[other][test], f"/s {name}"))
            if clients == 1:
                added = found[way][f"{test} ms"] - found["direct"][f"{test} ms"]
                rows.append(Row(f"{what}: p50 added", added, "ms"))
    return rows


def _measure(way: Options, requests: int, clients: int, pipeline: int) -> Measured:
    """By test: requests a second, and the median in milliseconds."""
    command = (
        *("redis-benchmark", "-h", "127.0.0.1", "--csv", "-t", "set,get", "--user", "alice", "-a", "x"),
        *("-n", str(requests), "-c", str(clients), "-P", str(pipeline), *way),
    )
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=600)
    lines = [line for line in done.stdout.splitlines() if line.startswith('"')]
    found: Measured = {}
    for line in csv.DictReader(lines):
        found |= {line["test"]: float(line["rps"]), f"{line['test']} ms": float(line["p50_latency_ms"])}
    return found
