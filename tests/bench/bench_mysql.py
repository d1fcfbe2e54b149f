"""MariaDB by `tsh`, beside the server's own TLS.

Clients of MySQL speak after their server, so that they have no way of their own to the proxy's one port."""

from __future__ import annotations

import contextlib
import subprocess
import tempfile
import time
from pathlib import Path
from typing import Any

import pymysql

from tests.bench.databases import Measured, reached, rounds, signed
from tests.bench.report import Row, percentile
from tests.integration.db_servers import mariadb


def run(full: bool = True) -> list[Row]:
    """One query after another, many rows, new connections."""
    queries, lines, count = (10_000, 5_000_000, 5) if full else (1_000, 500_000, 3)
    with tempfile.TemporaryDirectory() as name, signed() as (cluster, files):
        folder = Path(name)
        with mariadb(folder, files) as server, reached(cluster, "mysql", server.port) as world:
            tls = {"cert": world.own.cert, "key": world.own.key, "ca": f"{folder}/ca.pem"}
            mine: dict[str, dict[str, Any]] = {
                "direct": {
                    "port": server.port,
                    "ssl": {**tls, "check_hostname": False, "verify_mode": False},
                },
                "tsh": {"port": world.local_port},
            }
            flags = [f"--ssl-{what}={tls[what]}" for what in ("cert", "key")]
            programs = {"direct": [f"-P{server.port}", "--ssl", *flags], "tsh": [f"-P{world.local_port}"]}
            one = rounds(list(mine), count, lambda way: _queries(mine[way], queries))
            new = rounds(list(mine), count, lambda way: _connections(mine[way], queries // 50))
            many = rounds(list(mine), count, lambda way: _rows(programs[way], lines))
            direct, ours = one["direct"], one["tsh"]
            what = "MySQL, one query after another, tsh"
            return [
                Row(what, ours["rate"], "/s", direct["rate"], "/s direct TLS"),
                Row(f"{what}: p50 added", (ours["s"] - direct["s"]) * 1e3, "ms"),
                Row("MySQL, new connections, tsh", new["tsh"]["rate"], "/s", new["direct"]["rate"],
                    "/s direct TLS"),
                Row(f"MySQL, {lines:,} rows, tsh", many["tsh"]["rate"], "rows/s", many["direct"]["rate"],
                    "rows/s direct TLS"),
            ]  # fmt: skip


def _connect(options: dict[str, Any]) -> Any:
    return pymysql.connect(host="127.0.0.1", user="alice", database="shop", **options)


def _queries(options: dict[str, Any], count: int) -> Measured:
    """Queries a second, and the median in seconds."""
    took = []
    with contextlib.closing(_connect(options)) as connection, connection.cursor() as cursor:
        for number in range(count):
            begin = time.perf_counter()
            cursor.execute("select name from parts where id = %s", (number,))
            cursor.fetchall()
            took.append(time.perf_counter() - begin)
    return {"rate": count / sum(took), "s": percentile(took, 0.5)}


def _connections(options: dict[str, Any], count: int) -> Measured:
    begin = time.perf_counter()
    for _ in range(count):
        _connect(options).close()
    return {"rate": count / (time.perf_counter() - begin)}


def _rows(options: list[str], count: int) -> Measured:
    """Rows a second."""
    begin = time.perf_counter()
    subprocess.run(
        (
            *("mariadb", "--no-defaults", "-h127.0.0.1", "-ualice", "--quick", "-N", *options),
            *("-e", f"select seq, 'a name of twenty characters' from seq_1_to_{count}", "shop"),
        ),
        stdout=subprocess.DEVNULL,
        check=True,
        timeout=600,
    )
    return {"rate": count / (time.perf_counter() - begin)}
