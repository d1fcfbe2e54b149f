"""`tsh --headless` on one machine, approved with `tsh headless approve` on another."""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.harness import totp
from tests.harness.cluster import BIN, OS_USER, Cluster, Run
from tests.integration.terminal import Terminal


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    with Cluster.running(second_factor="otp") as made:
        yield made


class Elsewhere:
    """A machine without a login, running a command headless."""

    def __init__(self, cluster: Cluster, home: Path, *command: str) -> None:
        home.mkdir(exist_ok=True)
        env = {**cluster.env, "HOME": str(home), "TELEPORT_HOME": str(home / ".tsh")}
        words = [
            str(BIN / "tsh"),
            "--headless",
            f"--proxy={cluster.proxy_addr}",
            "--user=alice",
            "--insecure",
        ]
        self.home = home
        self.process = subprocess.Popen(
            [*words, *command], env=env, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
            stderr=subprocess.PIPE, text=True,
        )  # fmt: skip
        assert self.process.stderr
        self.said = ""
        while not (found := re.search(r"headless approve .* ([0-9a-f-]{36})", self.said)):
            line = self.process.stderr.readline()
            assert line, self.said
            self.said += line
        self.wanted = found[1]

    def end(self) -> tuple[int, str, str]:
        out, err = self.process.communicate(timeout=60)
        return self.process.returncode, out, err


@pytest.fixture(scope="module")
def at_home(cluster: Cluster) -> Iterator[Callable[..., Run]]:
    """Alice's tsh, with an identity that took no one-time code: one is good for a single use."""
    alice = cluster.person("alice")
    identity = cluster.dir / "alice.id"
    cluster.tctl("auth", "sign", "--user=alice", "--format=file", f"--out={identity}").ok()

    def tsh(*args: str, stdin: str = "") -> Run:
        words = (f"--proxy={cluster.proxy_addr}", f"--identity={identity}")
        return alice.tsh(
            *words, *args, stdin=stdin.replace("CODE", totp.code(alice.otp_secret, step_offset=1))
        )

    yield tsh


def test_a_command_runs_where_nobody_is_logged_in(
    cluster: Cluster, at_home: Callable[..., Run], tmp_path: Path
) -> None:
    before = set(Path("/dev/shm").glob("tsh-*"))
    command = ("ssh", f"{OS_USER}@demo-node", "echo headless-$((40+2))")
    elsewhere = Elsewhere(cluster, tmp_path / "there", *command)
    approve = ("headless", "approve", elsewhere.wanted, "--skip-confirm", "--otp-stdin")
    denied = at_home(*approve, stdin="000000\n")
    assert denied.code == 1
    assert "one-time code" in denied.err
    at_home(*approve, stdin="CODE\n").ok()
    assert elsewhere.end()[:2] == (0, "headless-42\n")
    # Nothing of it stays: neither in memory nor on the disk.
    assert set(Path("/dev/shm").glob("tsh-*")) <= before
    left = [path for path in elsewhere.home.rglob("*") if path.is_file() and b"PRIVATE" in path.read_bytes()]
    assert left == []
    assert cluster.wait_event("session.start", user="alice")["with_mfa"]


def test_a_denied_login_says_so(cluster: Cluster, at_home: Callable[..., Run], tmp_path: Path) -> None:
    elsewhere = Elsewhere(cluster, tmp_path / "there", "ls")
    nobody = at_home("headless", "approve", elsewhere.wanted)
    assert "nobody to ask" in nobody.err
    identity = cluster.dir / "alice.id"
    words = [str(BIN / "tsh"), f"--proxy={cluster.proxy_addr}", f"--identity={identity}"]
    screen = Terminal([*words, "headless", "approve", elsewhere.wanted], cluster.env)
    screen.expect("Is this your own login")
    screen.type("n")
    assert screen.end() == 1
    code, _, err = elsewhere.end()
    assert code == 1
    assert "denied" in err
    assert os.listdir(elsewhere.home) in ([], [".tsh"])  # noqa: PTH208
