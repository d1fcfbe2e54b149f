"""PostgreSQL by `tsh` and by the client's own TLS, beside the server's own TLS and pgbouncer with TLS.

pgbouncer pools in mode `session`, the one that promises what we do; TLS with certificates on both its sides.
pgbench's script of TPC-B has seven statements a transaction: what is added to it is told by the statement."""

from __future__ import annotations

import contextlib
import os
import re
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import psycopg

from tests.bench.databases import Files, Measured, World, reached, rounds, signed
from tests.bench.procfs import private_mib
from tests.bench.report import Row, percentile
from tests.harness.ports import free_port
from tests.integration.db_servers import running
from tests.integration.postgres_kit import Server, postgres

_LINE = "x" * 99
_STATEMENTS = {"select-only": 1, "tpcb-like": 7}
_IDLE = 500


def run(full: bool = True) -> list[Row]:
    """Transactions, new connections, COPY both ways, memory of idle connections."""
    seconds, count, lines = (5, 5, 10_000_000) if full else (2, 3, 1_000_000)
    settings = ("shared_buffers=256MB", "max_wal_size=4GB", f"max_connections={_IDLE + 100}")
    with signed() as (cluster, files), postgres(settings, files) as server:
        server.admin("CREATE UNLOGGED TABLE lines (line text); ALTER TABLE lines OWNER TO alice")
        with reached(cluster, "postgres", server.port) as world, _pgbouncer(server, world) as bouncer:
            ways = _ways(world, server, bouncer)
            _pgbench(ways["direct"], "-i", "-q", "-s", "16")
            rows: list[Row] = []
            for script in _STATEMENTS:
                for clients in (1, 16):
                    rows += _transactions(ways, script, clients, seconds, count)
            for clients in (1, 8):
                rows += _connections(ways, clients, seconds, count)
            rows += _copies(server, ways, lines, count)
            return rows + _idle(world, ways)


Environment = dict[str, str]


def _ways(world: World, server: Server, bouncer: int) -> dict[str, Environment]:
    """libpq's settings for each."""
    base = {
        **{name: value for name, value in os.environ.items() if not name.startswith("PG")},
        "PGHOSTADDR": "127.0.0.1",
        "PGUSER": "alice",
        "PGDATABASE": "shop",
        "PGGSSENCMODE": "disable",
    }

    def tls(port: int, files: Files, host: str, mode: str) -> Environment:
        own = {"PGSSLCERT": files.cert, "PGSSLKEY": files.key, "PGSSLROOTCERT": files.ca}
        return {**base, **own, "PGPORT": str(port), "PGHOST": host, "PGSSLMODE": mode}

    # The server's certificate is the cluster's, which libpq need not check to be measured.
    unchecked = Files(world.own.cert, world.own.key, "/nonexistent")
    return {
        "direct": tls(server.port, unchecked, "localhost", "require"),
        "pgbouncer": tls(bouncer, unchecked, "localhost", "require"),
        "tsh": {**base, "PGPORT": str(world.local_port), "PGSSLMODE": "disable"},
        "SNI": tls(world.cluster.web_port, world.files, world.sni, "verify-full"),
    }


@contextlib.contextmanager
def _pgbouncer(server: Server, world: World) -> Iterator[int]:
    folder, port = server.folder, free_port()
    key = Path(world.own.key)
    for name, text in (("c.pem", Path(world.own.cert).read_text()), ("c.key", key.read_text())):
        (folder / name).write_text(text)
    (folder / "users.txt").write_text('"alice" ""\n')
    (folder / "pgbouncer.ini").write_text(
        f"""
[databases]
* = host=127.0.0.1 port={server.port}
[pgbouncer]
listen_addr = 127.0.0.1
listen_port = {port}
unix_socket_dir =
auth_type = cert
auth_file = {folder}/users.txt
pool_mode = session
max_client_conn = 1000
default_pool_size = 100
client_tls_sslmode = verify-full
client_tls_ca_file = {folder}/ca.pem
client_tls_cert_file = {folder}/server.pem
client_tls_key_file = {folder}/server.key
server_tls_sslmode = require
server_tls_cert_file = {folder}/c.pem
server_tls_key_file = {folder}/c.key
"""
    )
    # It refuses to be root.
    owner = {"user": "postgres"} if os.geteuid() == 0 else {}
    if owner:
        subprocess.run(("chown", "-R", "--no-dereference", "postgres", folder / "c.key"), check=True)
    environment = {**os.environ, "PATH": f"{os.environ['PATH']}:/usr/sbin"}
    command = ("pgbouncer", "-q", folder / "pgbouncer.ini")
    with running(command, folder / "pgbouncer.log", port, env=environment, **owner):
        yield port


def _pgbench(environment: Environment, *args: str, folder: str | None = None) -> str:
    done = subprocess.run(
        ("pgbench", *args), capture_output=True, text=True, env=environment, timeout=300, cwd=folder
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def _transactions(
    ways: dict[str, Environment], script: str, clients: int, seconds: int, count: int
) -> list[Row]:
    options = ("-n", "-b", script, "-c", str(clients), "-j", "1", "-T", str(seconds), "-l")

    def measure(way: str) -> Measured:
        with tempfile.TemporaryDirectory() as folder:
            out = _pgbench(ways[way], *options, folder=folder)
            (log,) = Path(folder).glob("pgbench_log.*")
            took = [int(line.split()[2]) / 1e3 for line in log.read_text().splitlines()]
        return {"tps": float(re.findall(r"tps = ([\d.]+)", out)[0]), "ms": percentile(took, 0.5)}

    found = rounds(list(ways), count, measure)
    what = f"pgbench {script}, {clients} client{'s' if clients > 1 else ''}"
    rows = []
    for way in ("tsh", "SNI"):
        tps, pooled = found[way]["tps"], found["pgbouncer"]["tps"]
        rows.append(
            Row(f"{what}, {way}", tps, "tps", pooled, "tps pgbouncer", ">= 0.5x", tps >= 0.5 * pooled)
        )
        rows.append(Row(f"{what}, {way}", tps, "tps", found["direct"]["tps"], "tps direct TLS"))
        if clients == 1:
            statements = _STATEMENTS[script]
            added = (found[way]["ms"] - found["direct"]["ms"]) / statements
            note = f"of {statements} statements; direct {found['direct']['ms']:.3g} ms"
            rows.append(
                Row(f"{what}, {way}: p50 added", added, "ms", goal="<= 0.35", met=added <= 0.35, note=note)
            )
    return rows


def _connections(ways: dict[str, Environment], clients: int, seconds: int, count: int) -> list[Row]:
    options = ("-n", "-S", "-C", "-c", str(clients), "-j", str(clients), "-T", str(seconds))
    found = rounds(
        list(ways),
        count,
        lambda way: {"tps": float(re.findall(r"tps = ([\d.]+)", _pgbench(ways[way], *options))[0])},
    )
    what = f"new connections, {clients} client{'s' if clients > 1 else ''}"
    return [
        Row(f"{what}, {way}", found[way]["tps"], "/s", found[other]["tps"], f"/s {other}")
        for way in ("tsh", "SNI")
        for other in ("pgbouncer", "direct")
    ]


def _copies(server: Server, ways: dict[str, Environment], lines: int, count: int) -> list[Row]:
    select = f"COPY (SELECT '{_LINE}' FROM generate_series(1, {lines})) TO STDOUT"
    megabytes = lines * 100 / 1e6
    rows = []
    with tempfile.TemporaryFile() as data:
        subprocess.run(("sh", "-c", f"yes {_LINE} | head -n {lines}"), stdout=data, check=True)

        def measure(way: str) -> Measured:
            out = megabytes / _psql(ways[way], select, None)
            into = megabytes / _psql(ways[way], "COPY lines FROM STDIN", data.fileno())
            server.admin("TRUNCATE lines")
            return {"out": out, "in": into}

        found = rounds(["direct", "tsh", "SNI"], min(count, 3), measure)
    for way in ("tsh", "SNI"):
        for direction in ("out", "in"):
            ours, direct = found[way][direction], found["direct"][direction]
            what = f"COPY {direction} of {megabytes:.0f} MB, {way}"
            rows.append(Row(what, ours, "MB/s", direct, "MB/s direct TLS", ">= 0.6x", ours >= 0.6 * direct))
    return rows


def _psql(environment: Environment, statement: str, stdin: int | None) -> float:
    """Seconds that it took."""
    if stdin is not None:
        os.lseek(stdin, 0, os.SEEK_SET)
    begin = time.monotonic()
    subprocess.run(
        ("psql", "-X", "-q", "-c", statement),
        stdin=subprocess.DEVNULL if stdin is None else stdin,
        stdout=subprocess.DEVNULL,
        env=environment,
        check=True,
        timeout=600,
    )
    return time.monotonic() - begin


def _idle(world: World, ways: dict[str, Environment]) -> list[Row]:
    """Private memory that each process takes for connections that have said something once."""
    daemons = world.cluster.daemons
    pids = {"agent": daemons["db"].pid, "proxy": daemons["proxy"].pid, "tsh": world.tsh_pid}

    def memory() -> dict[str, float]:
        return {name: private_mib(pid) for name, pid in pids.items()}

    before = memory()
    with contextlib.ExitStack() as stack:
        for _ in range(_IDLE):
            connection = psycopg.connect(
                host="127.0.0.1", port=world.local_port, user="alice", dbname="shop", sslmode="disable"
            )
            stack.enter_context(contextlib.closing(connection))
            connection.execute("select 1")
        after = memory()
    kib = {name: (after[name] - before[name]) * 1024 / _IDLE for name in pids}
    return [
        Row(f"{_IDLE} idle connections, {name}", one, "kB each", goal="<= 150", met=one <= 150)
        for name, one in kib.items()
    ]
