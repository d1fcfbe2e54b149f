"""MariaDB through the Database Service's relay, beside the same client on the server's own TLS.

The client is where a user's is inside TLS, so that one of the two ways in TLS is not in it. Facts are taken
and dropped, so that the conversation's part of the audit is counted."""

from __future__ import annotations

import contextlib
import subprocess
import tempfile
import time
from pathlib import Path

import pymysql

from pkgs.agents.db.mysql.engine import MysqlEngine
from tests.bench.report import Row, percentile
from tests.integration.db_kit import Dropped, serving
from tests.integration.db_servers import mariadb
from tests.unit.net import certs


def run(full: bool = True) -> list[Row]:
    """One query after another, and many rows."""
    queries, rows = (20_000, 5_000_000) if full else (2_000, 500_000)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        mine = certs.pair("alice")
        (folder / "c.pem").write_text(mine.cert)
        (folder / "c.key").write_bytes(mine.key)
        with mariadb(folder) as server, serving(MysqlEngine(), server.uri, facts=Dropped()) as (port, _):
            tls = {"ca": f"{folder}/ca.pem", "cert": f"{folder}/c.pem", "key": f"{folder}/c.key"}
            direct = _queries(server.port, {"ssl": {**tls, "check_hostname": False}}, queries)
            ours = _queries(port, {}, queries)
            options = [f"--ssl-{what}={path}" for what, path in tls.items()]
            streamed = _rows(server.port, options, rows)
            return [
                Row("MySQL, one query after another", ours[0], "/s", direct[0], "/s, direct TLS"),
                Row("MySQL, one query after another: latency added, p50", (ours[1] - direct[1]) * 1e3, "ms"),
                Row(f"MySQL, {rows:,} rows", _rows(port, [], rows), "rows/s", streamed, "rows/s, direct TLS"),
            ]


def _queries(port: int, options: dict[str, object], count: int) -> tuple[float, float]:
    """Queries a second, and the median in seconds."""
    connection = pymysql.connect(host="127.0.0.1", port=port, user="alice", database="shop", **options)
    took = []
    with contextlib.closing(connection), connection.cursor() as cursor:
        for number in range(count):
            begin = time.perf_counter()
            cursor.execute("select name from parts where id = %s", (number,))
            cursor.fetchall()
            took.append(time.perf_counter() - begin)
    return count / sum(took), percentile(took, 0.5)


def _rows(port: int, options: list[str], count: int) -> float:
    """Rows a second."""
    begin = time.perf_counter()
    subprocess.run(
        (
            *("mariadb", "--no-defaults", "-h127.0.0.1", f"-P{port}", "-ualice", "--quick", "-N", *options),
            *("-e", f"select seq, 'a name of twenty characters' from seq_1_to_{count}", "shop"),
        ),
        stdout=subprocess.DEVNULL,
        check=True,
        timeout=600,
    )
    return count / (time.perf_counter() - begin)
