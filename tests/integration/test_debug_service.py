"""The debug service of a real process, asked by curl and by `teleport debug`, and the process's own life."""

from __future__ import annotations

import contextlib
import io
import json
import os
import re
import signal
import socket
import stat
import subprocess
import tarfile
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.harness.cluster import BIN, Run, run
from tests.harness.ports import free_port
from tests.harness.wait import wait_for


class Auth:
    """One `teleport-auth` with a data dir of its own."""

    def __init__(self, folder: Path, *flags: str) -> None:
        self.data_dir = folder / "data"
        self.log = folder / "log"
        self.config = folder / "teleport.yaml"
        self.notes = folder / "notify"
        self.config.write_text(
            f"version: v3\nteleport: {{data_dir: {self.data_dir}}}\n"
            f"auth_service: {{cluster_name: demo, listen_addr: '127.0.0.1:{free_port()}'}}\n"
            "proxy_service: {enabled: no}\nssh_service: {enabled: no}\n"
        )
        self.sock = self.data_dir / "debug-auth.sock"
        self.notified = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.notified.bind(str(self.notes))
        self.notified.settimeout(30)
        with self.log.open("wb") as out:
            self.process = subprocess.Popen(
                [BIN / "teleport-auth", "-c", self.config, *flags],
                stdout=out,
                stderr=out,
                env={**os.environ, "NOTIFY_SOCKET": str(self.notes), "WATCHDOG_USEC": "200000"},
            )

    def wait_ready(self) -> None:
        wait_for(lambda: self.sock.exists() and self.curl("/readyz").out.endswith("200"), what="readiness")

    @property
    def text(self) -> str:
        return self.log.read_text()

    def curl(self, path: str, *extra: str, stdin: str = "") -> Run:
        """The body and, at the end, the status."""
        return run(
            "curl",
            "-sS",
            "-w",
            "%{http_code}",
            *extra,
            "--unix-socket",
            self.sock,
            f"http://d{path}",
            stdin=stdin,
        )

    def teleport(self, *words: str) -> Run:
        return run(BIN / "teleport", *words, "-c", self.config)

    def stop(self) -> int:
        self.notified.close()
        self.process.terminate()
        try:
            return self.process.wait(20)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait(5)
            raise


@pytest.fixture(scope="module")
def auth() -> Iterator[Auth]:
    """For all tests that leave it running."""
    with tempfile.TemporaryDirectory(prefix="t-") as folder, running(Path(folder)) as made:
        yield made


@contextlib.contextmanager
def running(folder: Path) -> Iterator[Auth]:
    made = Auth(folder)
    try:
        made.wait_ready()
        yield made
    finally:
        made.stop()


pytestmark = pytest.mark.needs("curl")


def test_readiness_and_metrics(auth: Auth) -> None:
    answer = auth.curl("/readyz").ok().out
    assert json.loads(answer[:-3]) == {"status": "ok", "pid": auth.process.pid}
    assert answer.endswith("200")
    assert auth.curl("/healthz").out.endswith("200")
    assert "process_resident_memory_bytes" in auth.curl("/metrics").out
    assert auth.teleport("debug", "readyz").ok().out == "ok\n"
    assert "process_resident_memory_bytes" in auth.teleport("debug", "metrics").ok().out
    assert "teleport-auth:  ok" in auth.teleport("status").ok().out


def test_the_socket_is_private_and_has_the_known_name_too(auth: Auth) -> None:
    assert stat.S_IMODE(auth.sock.stat().st_mode) == 0o600
    assert stat.S_IMODE(auth.data_dir.stat().st_mode) == 0o700
    assert (auth.data_dir / "debug.sock").resolve() == auth.sock


def test_the_level_changes_at_once(auth: Auth) -> None:
    assert auth.curl("/log-level").out == "INFO200"
    assert auth.teleport("debug", "get-log-level").ok().out == 'Current log level "INFO"\n'
    changed = auth.teleport("debug", "set-log-level", "debug").ok().out
    assert changed == 'Changed log level from "INFO" to "DEBUG".\n'
    assert auth.curl("/log-level", "-XPUT", "-dDebug").out == 'Log level already set to "DEBUG".200'
    assert auth.curl("/log-level", "-XPUT", "-dloud").out == "Invalid log level.422"
    too_long = auth.curl("/log-level", "-XPUT", "--data-binary", "@-", stdin="x" * 2000)
    assert too_long.out.strip().endswith("422")
    assert "Unable to read request body." in too_long.out
    assert auth.curl("/log-level").out == "DEBUG200"


def test_profiles(auth: Auth) -> None:
    assert "teleport-auth" in auth.curl("/debug/pprof/cmdline").out
    assert "MainThread;" in auth.curl("/debug/pprof/profile?seconds=1").out
    assert "thread MainThread" in auth.curl("/debug/pprof/goroutine").out
    assert "tracked objects" in auth.curl("/debug/pprof/heap").out
    assert auth.curl("/debug/pprof/block").out.endswith("404")
    assert auth.curl("/debug/pprof/profile?seconds=1e9").out.endswith("400")
    made = subprocess.run(
        [BIN / "teleport", "debug", "profile", "goroutine,heap", "-c", auth.config],
        capture_output=True,
        check=True,
        timeout=60,
    )
    with tarfile.open(fileobj=io.BytesIO(made.stdout)) as tar:
        assert [(entry.name, entry.mode) for entry in tar] == [
            ("goroutine.pprof", 0o600),
            ("heap.pprof", 0o600),
        ]


def test_what_is_not_offered(auth: Auth) -> None:
    assert auth.curl("/").out.endswith("404")
    assert auth.curl("/readyz", "-XPOST").out.endswith("405")
    assert auth.curl("/readyz", "-H", f"x: {'y' * 100_000}").out.endswith("431")


def test_idle_connections_do_not_shut_others_out(auth: Auth) -> None:
    held = []
    for _ in range(40):
        sock = socket.socket(socket.AF_UNIX)
        sock.connect(str(auth.sock))
        sock.sendall(b"GET /readyz HT")
        held.append(sock)
    for sock in held:
        sock.close()
    wait_for(lambda: auth.curl("/readyz").out.endswith("200"), what="an answer after the flood")


def test_a_second_process_on_the_same_data_dir_is_refused(auth: Auth) -> None:
    second = run(BIN / "teleport-auth", "-c", auth.config)
    assert second.code == 1
    assert re.fullmatch(r"teleport-auth: error: another teleport-auth uses the data dir .*\n", second.err)
    assert auth.curl("/readyz").out.endswith("200")


def test_signals_and_notifications(short_tmp: Path) -> None:
    with running(short_tmp) as auth:
        notes = auth.notified.recv(1000).decode().split("\n")
        assert notes == ["READY=1", f"MAINPID={auth.process.pid}"]
        assert auth.notified.recv(1000) == b"WATCHDOG=1"
        auth.process.send_signal(signal.SIGUSR1)
        wait_for(lambda: "thread_name=MainThread" in auth.text, what="the diagnostics in the log")
        auth.process.send_signal(signal.SIGHUP)
        wait_for(lambda: "reloaded" in auth.text, what="the reload in the log")
        while not (note := auth.notified.recv(1000)).startswith(b"RELOADING=1\nMONOTONIC_USEC="):
            assert note == b"WATCHDOG=1"
        auth.process.terminate()
        assert auth.process.wait(20) == 0
        assert not auth.sock.exists()
        assert "Traceback" not in auth.text


def test_no_core_no_debugger(auth: Auth) -> None:
    limits = Path(f"/proc/{auth.process.pid}/limits").read_text()
    assert re.search(r"^Max core file size +0 ", limits, re.MULTILINE)
    # A process that is not dumpable belongs to root in /proc and cannot be traced by its own user.
    status = Path(f"/proc/{auth.process.pid}/status").read_text()
    assert re.search(r"^Umask:\t0077$", status, re.MULTILINE)


def test_json_log_and_diagnostics_port(short_tmp: Path) -> None:
    port = free_port()
    made = Auth(
        short_tmp, "--log-format=json", f"--diag-addr=127.0.0.1:{port}", f"--pid-file={short_tmp}/pid"
    )
    try:
        made.wait_ready()
        url = f"http://127.0.0.1:{port}"
        assert run("curl", "-s", f"{url}/healthz").ok().out == '{"status":"ok"}\n'
        assert "process_cpu" in run("curl", "-s", f"{url}/metrics").ok().out
        for path in ("/log-level", "/debug/pprof/heap"):
            assert run("curl", "-s", "-w", "%{http_code}", f"{url}{path}").out.endswith("404")
        assert (short_tmp / "pid").read_text() == f"{made.process.pid}\n"
    finally:
        assert made.stop() == 0
    assert {json.loads(line)["level"] for line in made.text.splitlines()} <= {"info", "warn"}
    assert not (short_tmp / "pid").exists()


def test_a_failure_at_the_start_is_one_line(short_tmp: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        done = run(BIN / "teleport-auth", f"--data-dir={short_tmp}/d", f"--listen=127.0.0.1:{port}")
    assert done.code == 1
    last = done.err.splitlines()[-1]
    assert last.startswith("teleport-auth: error: ")
    assert str(port) in last
    assert "Traceback" not in done.err
    assert run(BIN / "teleport-auth", "--what").code == 2
