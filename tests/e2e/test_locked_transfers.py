"""Locks end transfers of files in the middle, with the real sftp and scp."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.harness.cluster import OS_USER, Cluster
from tests.harness.wait import wait_for

HOST = f"{OS_USER}@demo-node.demo"


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    with Cluster.running() as made:
        yield made


@pytest.mark.parametrize("how", ["sftp-put", "sftp-idle", "scp-sftp", "scp-scp"])
def test_a14_a_lock_ends_a_transfer(cluster: Cluster, tmp_path: Path, how: str) -> None:
    name = f"user-{how}"
    person = cluster.login(name)
    payload, there = tmp_path / "payload", tmp_path / "there"
    with payload.open("wb") as file:
        file.truncate(64 * 1024 * 1024)
    config = str(person.ssh_config())
    slow = ["-q", "-F", config, "-l", "4000"]  # half a megabyte a second: two minutes
    argv = {
        "sftp-put": ["sftp", *slow, HOST],
        "sftp-idle": ["sftp", *slow, HOST],
        "scp-sftp": ["scp", "-s", *slow, str(payload), f"{HOST}:{there}"],
        "scp-scp": ["scp", "-O", *slow, str(payload), f"{HOST}:{there}"],
    }[how]
    with subprocess.Popen(
        argv, env=person.env, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
    ) as live:
        assert live.stdin is not None and live.stderr is not None
        try:
            if how.startswith("sftp"):
                live.stdin.write(
                    f"put {payload} {there}\n".encode() if "put" in how else f"mkdir {there}\n".encode()
                )
                live.stdin.flush()
            wait_for(there.exists, what="the transfer to begin")
            began = time.monotonic()
            cluster.tctl("lock", f"--user={name}", "--message=enough").ok()
            if how == "sftp-idle":
                # An idle sftp looks at nothing but its terminal; its ssh tells why it went.
                assert b"enough" in live.stderr.readline()
                live.stdin.write(b"ls\n")
                live.stdin.flush()
            assert live.wait(15) != 0
            assert time.monotonic() - began < 5
        finally:
            live.kill()
