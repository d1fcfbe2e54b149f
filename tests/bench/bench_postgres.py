"""PostgreSQL through the Database Service's relay, beside the same client on the server's own TLS.

TLS with a client certificate on both ways; the service is one process with one loop, as an agent is. Proxy
and tunnel are not in it. Facts are taken and dropped: only the conversation's part of the audit counts."""

from __future__ import annotations

import contextlib
import os
import re
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from tests.bench.report import Row
from tests.integration.postgres_kit import Server, postgres, serving
from tests.unit.net import certs

_LINE = "x" * 99


def run(full: bool = True) -> list[Row]:
    """Transactions of pgbench and COPY both ways."""
    seconds, lines = (10, 10_000_000) if full else (3, 1_000_000)
    with (
        postgres(("shared_buffers=256MB", "max_wal_size=4GB")) as server,
        serving(f"127.0.0.1:{server.port}") as service,
        _identity() as environment,
    ):
        service.facts = _Dropped()
        server.admin("CREATE UNLOGGED TABLE lines (line text); ALTER TABLE lines OWNER TO alice")
        ports = {"direct": server.port, "ours": service.port}
        _pgbench(server.port, environment, "-i", "-q", "-s", "5")
        rows: list[Row] = []
        for mode in ("simple", "prepared"):
            for clients in (1, 16):
                rows += _select_only(ports, environment, mode, clients, seconds)
        return rows + _copies(server, ports, environment, lines)


class _Dropped(list):  # type: ignore[type-arg]
    def __iadd__(self, facts: object) -> _Dropped:  # type: ignore[override,misc]
        return self


@contextlib.contextmanager
def _identity() -> Iterator[dict[str, str]]:
    """libpq's settings for a client with a certificate."""
    mine = certs.pair("alice")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for file, text in (("c.pem", mine.cert), ("c.key", mine.key.decode()), ("ca.pem", certs.roots())):
            (folder / file).touch(0o600)
            (folder / file).write_text(text)
        yield {
            **os.environ,
            "PGSSLMODE": "verify-ca",
            "PGSSLROOTCERT": f"{folder}/ca.pem",
            "PGSSLCERT": f"{folder}/c.pem",
            "PGSSLKEY": f"{folder}/c.key",
            "PGGSSENCMODE": "disable",
            "PGHOST": "127.0.0.1",
            "PGUSER": "alice",
        }


def _pgbench(port: int, environment: dict[str, str], *args: str) -> str:
    done = subprocess.run(
        ("pgbench", "-p", str(port), *args, "shop"),
        capture_output=True,
        text=True,
        env=environment,
        check=True,
        timeout=300,
    )
    return done.stdout


def _select_only(
    ports: dict[str, int], environment: dict[str, str], mode: str, clients: int, seconds: int
) -> list[Row]:
    rate: dict[str, float] = {}
    latency: dict[str, float] = {}
    options = ("-S", "-n", "-M", mode, "-c", str(clients), "-j", "1", "-T", str(seconds))
    for name, port in ports.items():
        out = _pgbench(port, environment, *options)
        rate[name] = float(re.findall(r"tps = ([\d.]+)", out)[0])
        latency[name] = float(re.findall(r"latency average = ([\d.]+)", out)[0])
    what = f"pgbench select-only, {mode}, {clients} clients"
    return [
        Row(what, rate["ours"], "tps", rate["direct"], "tps, direct TLS"),
        Row(f"{what}: latency added", latency["ours"] - latency["direct"], "ms"),
    ]


def _copies(server: Server, ports: dict[str, int], environment: dict[str, str], lines: int) -> list[Row]:
    select = f"COPY (SELECT '{_LINE}' FROM generate_series(1, {lines})) TO STDOUT"
    megabytes = lines * 100 / 1e6
    out, into = {}, {}
    with tempfile.TemporaryFile() as data:
        subprocess.run(("sh", "-c", f"yes {_LINE} | head -n {lines}"), stdout=data, check=True)
        for name, port in ports.items():
            out[name] = megabytes / _psql(port, environment, select, None)
            into[name] = megabytes / _psql(port, environment, "COPY lines FROM STDIN", data.fileno())
            server.admin("TRUNCATE lines")
    return [
        Row(
            f"COPY {way} of {megabytes:.0f} MB",
            rate["ours"],
            "MB/s",
            rate["direct"],
            "MB/s, direct TLS",
            ">= 0.6x direct",
            rate["ours"] >= 0.6 * rate["direct"],
        )
        for way, rate in (("out", out), ("in", into))
    ]


def _psql(port: int, environment: dict[str, str], statement: str, stdin: int | None) -> float:
    """Seconds that it took."""
    if stdin is not None:
        os.lseek(stdin, 0, os.SEEK_SET)
    begin = time.monotonic()
    subprocess.run(
        ("psql", "-X", "-q", "-p", str(port), "-d", "shop", "-c", statement),
        stdin=subprocess.DEVNULL if stdin is None else stdin,
        stdout=subprocess.DEVNULL,
        env=environment,
        check=True,
        timeout=600,
    )
    return time.monotonic() - begin
