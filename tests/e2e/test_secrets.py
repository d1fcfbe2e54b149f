"""A65: run a journey with known secrets, then hunt for them wherever they must not be."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.harness.cluster import OS_USER, PASSWORD, Cluster, Person
from tests.harness.wait import wait_for


@pytest.fixture
def cluster() -> Iterator[Cluster]:
    """With a second factor, so that there is a secret of it to look for."""
    with Cluster.running(second_factor="otp") as made:
        yield made


def _files(root: Path) -> list[Path]:
    return [p for p in root.rglob("*") if p.is_file() and not p.is_symlink()]


def test_a65_no_secret_leaves_its_place(cluster: Cluster) -> None:
    token = cluster.token()
    link = cluster.invite("alice")
    invitation = link.rsplit("/", 1)[1]
    alice = Person("alice", cluster.dir / "home-alice", cluster)
    alice.home.mkdir()
    alice.signup(link)
    alice.login().ok()
    alice.tsh("ssh", f"{OS_USER}@demo-node", "echo seen").ok()
    cluster.wait_event("session.end", user="alice")
    args = b"".join(
        (p / "cmdline").read_bytes() for p in Path("/proc").iterdir() if p.name.isdigit() and _readable(p)
    )
    canaries = {
        "password": PASSWORD,
        "otp secret": alice.otp_secret,
        "invitation": invitation,
        "token": token,
    }
    logs = b"".join(d.log.read_bytes() for d in cluster.daemons.values())
    audit = cluster.tctl("audit", "ls", "--format=json", "--limit=10000").ok().out.encode()
    for name, value in canaries.items():
        for place, content in (("logs", logs), ("audit", audit), ("argv", args)):
            assert value.encode() not in content, f"{name} stands in {place}"
    for path in (*_files(alice.home), *_files(cluster.data_dir / "recordings")):
        content = path.read_bytes()
        for name, value in canaries.items():
            assert value.encode() not in content, f"{name} stands in {path}"
    for path in _files(cluster.data_dir / "backend"):
        content = path.read_bytes()
        assert PASSWORD.encode() not in content, "the password itself is stored"


def _readable(proc: Path) -> bool:
    try:
        (proc / "cmdline").read_bytes()
    except OSError:
        return False
    return True


def test_key_files_are_private(cluster: Cluster) -> None:
    bob = cluster.login("bob")
    wait_for(lambda: (cluster.data_dir / "proc").exists(), what="the services' identities")
    for root in (cluster.data_dir, bob.home / ".tsh"):
        for path in _files(root):
            try:
                content = path.read_bytes()
            except OSError:
                continue
            if b"PRIVATE KEY" in content:
                mode = stat.S_IMODE(path.stat().st_mode)
                assert mode & 0o077 == 0, f"{path} is {mode:o}"
    assert stat.S_IMODE(cluster.data_dir.stat().st_mode) & 0o077 == 0
    for sock in cluster.data_dir.glob("*.sock"):
        assert stat.S_IMODE(sock.stat().st_mode) & 0o077 == 0, sock
        assert sock.stat().st_uid == os.geteuid()
