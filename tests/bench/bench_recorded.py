"""What recording takes from a session's throughput: the same output, recorded and not, interleaved."""

from __future__ import annotations

import subprocess
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path

from tests.bench.openssh import CIPHER, BenchUser
from tests.bench.procfs import cpu_s, family
from tests.bench.report import Row, median
from tests.harness.cluster import Cluster, Person


class Recorded:
    """A cluster that records sessions or does not, and somebody who prints a file in one."""

    def __init__(self, cluster: Cluster, login: str) -> None:
        self.agent = cluster.daemons["ssh"].pid
        self._alice: Person = cluster.login("alice", "access", login)
        config = str(self._alice.ssh_config())
        self._ssh = ["ssh", "-F", config, "-c", CIPHER, f"{login}@demo-node.demo"]

    def print(self, file: Path, *, terminal: bool) -> float:
        """Wall seconds until the whole file was shown, the login included."""
        argv = [*self._ssh[:1], *(["-tt"] if terminal else []), *self._ssh[1:], f"cat {file}"]
        began = time.perf_counter()
        subprocess.run(
            argv, env=self._alice.env, check=True, timeout=300,
            stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        return time.perf_counter() - began


def _text(folder: str, mb: int) -> Path:
    """A file of numbered lines, as programs print them."""
    path = Path(folder, f"{mb}")
    line = b"%07d the quick brown fox jumps over the lazy dog and on\n"
    with path.open("wb") as out:
        for number in range(mb * 1_000_000 // len(line % 0)):
            out.write(line % number)
    return path


def _compared(sides: dict[str, Recorded], file: Path, mb: int, rounds: int, *, terminal: bool) -> list[Row]:
    took: dict[str, list[float]] = {name: [] for name in sides}
    used = dict.fromkeys(sides, 0.0)
    for number in range(rounds + 1):
        for name, side in sides.items():
            before = cpu_s(family(side.agent))
            seconds = side.print(file, terminal=terminal)
            if number:  # the first of each warms up
                took[name].append(seconds)
                used[name] += cpu_s(family(side.agent)) - before
    on, off = (mb / median(took[name]) for name in ("on", "off"))
    lost = (1 - on / off) * 100
    kind = "output on a terminal" if terminal else "output of a command"
    return [
        Row(f"{kind}, {mb} MB, recorded", on, "MB/s", off, "MB/s not recorded"),
        Row(f"{kind}, what recording takes", lost, "%", goal="< 5 %", met=lost < 5),
        Row(f"{kind}, CPU of the agent", used["on"] / rounds, "s", used["off"] / rounds, "s not recorded"),
    ]


def run(*, full: bool = True) -> list[Row]:
    """All rows. `full` moves enough for the login not to count; otherwise a quick look."""
    mb, on_terminal, rounds = (200, 40, 7) if full else (20, 10, 2)
    with (
        BenchUser() as user,
        tempfile.TemporaryDirectory(prefix="tp-recorded-") as folder,
        ExitStack() as stack,
    ):
        Path(folder).chmod(0o755)
        sides = {}
        for name, mode in (("on", "node"), ("off", "off")):
            overrides = {
                "teleport": {"log": {"severity": "INFO"}},
                "auth_service": {"session_recording": mode},
            }
            cluster = stack.enter_context(Cluster.running(overrides=overrides))
            sides[name] = Recorded(cluster, user.name)
        return [
            *_compared(sides, _text(folder, mb), mb, rounds, terminal=False),
            *_compared(sides, _text(folder, on_terminal), on_terminal, rounds, terminal=True),
        ]
