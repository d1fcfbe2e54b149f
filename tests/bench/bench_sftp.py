"""Files over SFTP through the proxy and the tunnel, beside OpenSSH's own server through `ssh -J`."""

from __future__ import annotations

import shutil
import subprocess
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from tests.bench.openssh import CIPHER, BenchUser, OpenSshPair
from tests.bench.report import Row, median
from tests.harness.cluster import Cluster

SMALL = 1024
"""Bytes of a small file."""


@dataclass(frozen=True, slots=True)
class Side:
    """An OpenSSH configuration, and the name of the server in it."""

    config: Path
    host: str
    env: dict[str, str]

    def sftp(self, batch: str) -> float:
        """Wall seconds of a batch, the login included."""
        argv = ["sftp", "-q", "-F", str(self.config), "-o", f"Ciphers={CIPHER}", "-b", "-", self.host]
        began = time.perf_counter()
        subprocess.run(
            argv, env=self.env, input=batch.encode(), stdout=subprocess.DEVNULL, check=True, timeout=600
        )
        return time.perf_counter() - began


def large(sides: dict[str, Side], far: Path, mb: int, rounds: int) -> list[Row]:
    """One large file, interleaved with the reference."""
    source = far / "large"
    with source.open("wb") as out:
        for _ in range(mb):
            out.write(b"\x5a" * 1_000_000)
    rows = []
    for label, batch in (
        ("down", f"get {source} /dev/null\n"),
        ("up", f"put {source} {far}/up\nrm {far}/up\n"),
    ):
        took: dict[str, list[float]] = {name: [] for name in sides}
        for _ in range(rounds):
            for name, side in sides.items():
                took[name].append(side.sftp(batch))
        ours, ref = (mb / median(took[name]) for name in ("ours", "reference"))
        rows.append(
            Row(f"sftp {label}, one file of {mb} MB", ours, "MB/s", ref, "MB/s OpenSSH", ">= 0.7x",
                ours >= 0.7 * ref)
        )  # fmt: skip
    return rows


def small(sides: dict[str, Side], far: Path, count: int, rounds: int) -> list[Row]:
    """A folder of small files, put and fetched."""
    source = far / "source"
    for n in range(count):
        path = source / f"{n // 500:03d}" / f"{n:06d}"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"x" * SMALL)
    rows = []
    for label in ("up", "down"):
        took: dict[str, list[float]] = {name: [] for name in sides}
        for n in range(rounds):
            for name, side in sides.items():
                target = far / f"{name}-{label}-{n}"
                verb = "put -r" if label == "up" else "get -r"
                took[name].append(side.sftp(f"{verb} {source} {target}\n"))
                shutil.rmtree(target)
        ours, ref = median(took["ours"]), median(took["reference"])
        rows.append(
            Row(f"sftp {label}, {count} small files", ours, "s", ref, "s OpenSSH", "<= 1.5x",
                ours <= 1.5 * ref)
        )  # fmt: skip
    return rows


def run(*, full: bool = True) -> list[Row]:
    """All rows. `full` is the size that the goals name; otherwise a quick look."""
    with BenchUser() as user, OpenSshPair(user) as reference:
        far = Path(tempfile.mkdtemp(prefix="tp-sftp-"))
        far.chmod(0o777)
        cluster = Cluster(overrides={"teleport": {"log": {"severity": "INFO"}}})
        try:
            cluster.start()
            cluster.wait_node("demo-node")
            alice = cluster.login("alice", roles="access", logins=user.name)
            sides = {
                "reference": Side(reference.config, "target", alice.env),
                "ours": Side(alice.ssh_config(), f"{user.name}@demo-node.demo", alice.env),
            }
            rows = large(sides, far, 256 if full else 64, 5 if full else 2)
            if full:
                rows += large(sides, far, 4_000, 1)
            rows += small(sides, far, 20_000 if full else 1_000, 1)
        finally:
            cluster.destroy()
            shutil.rmtree(far, ignore_errors=True)
        return rows
