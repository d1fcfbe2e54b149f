"""Redis through the Database Service's relay, beside the same client on the server's own TLS.

TLS with a client certificate on both ways; the service is one process with one loop, as an agent is. Proxy
and tunnel are not in it. Facts are taken and dropped: the conversation's part of the audit is counted."""

from __future__ import annotations

import csv
import subprocess
import tempfile
from pathlib import Path

from pkgs.agents.db.redis.engine import RedisEngine
from tests.bench.report import Row
from tests.integration.db_kit import Dropped, serving
from tests.integration.db_servers import redis
from tests.unit.net import certs


def run(full: bool = True) -> list[Row]:
    """redis-benchmark with and without pipelining."""
    requests = 200_000 if full else 20_000
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        mine = certs.pair("alice")
        (folder / "c.pem").write_text(mine.cert)
        (folder / "c.key").write_bytes(mine.key)
        with (
            redis(folder) as server,
            serving(RedisEngine(), server.uri, tls=True, facts=Dropped()) as (port, _),
        ):
            ports = {"direct": server.port, "ours": port}
            rows = _rows(ports, folder, requests // 10, 1, 1)
            rows += _rows(ports, folder, requests, 50, 1)
            return rows + _rows(ports, folder, requests * 5, 50, 16)


def _rows(ports: dict[str, int], folder: Path, requests: int, clients: int, pipeline: int) -> list[Row]:
    found = {name: _measure(port, folder, requests, clients, pipeline) for name, port in ports.items()}
    how = f"{clients} client{'s' if clients > 1 else ''}, {pipeline} at a time"
    rows = []
    for test in found["direct"]:
        (ours, ours_ms), (direct, direct_ms) = found["ours"][test], found["direct"][test]
        rows.append(Row(f"redis-benchmark {test}, {how}", ours, "/s", direct, "/s, direct TLS"))
        rows.append(Row(f"redis-benchmark {test}, {how}: latency added, p50", ours_ms - direct_ms, "ms"))
    return rows


def _measure(
    port: int, folder: Path, requests: int, clients: int, pipeline: int
) -> dict[str, tuple[float, float]]:
    """By test: requests a second, and the median in milliseconds."""
    command = (
        *("redis-benchmark", "-h", "127.0.0.1", "-p", str(port), "--csv", "-t", "set,get"),
        *("--user", "alice", "-a", "x", "-n", str(requests), "-c", str(clients), "-P", str(pipeline)),
        *("--tls", "--sni", certs.SERVER_NAME, "--cacert", f"{folder}/ca.pem"),
        *("--cert", f"{folder}/c.pem", "--key", f"{folder}/c.key"),
    )
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=600)
    lines = [line for line in done.stdout.splitlines() if line.startswith('"')]
    return {
        line["test"]: (float(line["rps"]), float(line["p50_latency_ms"])) for line in csv.DictReader(lines)
    }
