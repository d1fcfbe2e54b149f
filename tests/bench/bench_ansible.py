"""Ansible over many hosts at once: each ssh with a tsh of its own, and all through the multiplexer."""

from __future__ import annotations

import time
from pathlib import Path

from tests.bench.openssh import BenchUser
from tests.bench.report import Row, median
from tests.harness import cluster as programs
from tests.harness.cluster import Cluster, Person
from tests.harness.fleet import multiplexer, start_fleet


def visit(alice: Person, inventory: Path, config: Path, login: str, hosts: int) -> float:
    """Wall seconds of one command on all hosts; AssertionError when any of them failed."""
    env = {
        **alice.env,
        "ANSIBLE_SSH_ARGS": f"-F {config}",
        "ANSIBLE_REMOTE_USER": login,
        "ANSIBLE_LOCAL_TEMP": str(alice.home / "ansible"),
        "ANSIBLE_FORKS": str(hosts),
    }
    argv = ("ansible", "-i", inventory, "all", "-m", "raw", "-a", "echo visited")
    began = time.perf_counter()
    out = programs.run(*argv, env=env, timeout=300).ok().out
    took = time.perf_counter() - began
    assert out.count("visited") == hosts
    return took


def run_rows(cluster: Cluster, login: str, agents: int, names: int, rounds: int) -> list[Row]:
    alice = cluster.login("alice", roles="access", logins=login)
    inventory = cluster.dir / "inventory"
    inventory.write_text("".join(f"{name}\n" for name in start_fleet(cluster, agents, names)))
    plain, through = alice.ssh_config(), alice.home / "multiplexed"
    through.write_text(alice.tsh("config", "--multiplex").ok().out)
    hosts = agents * names
    took: dict[str, list[float]] = {"plain": [], "through": []}
    for _ in range(rounds):
        took["plain"].append(visit(alice, inventory, plain, login, hosts))
        with multiplexer(alice):
            took["through"].append(visit(alice, inventory, through, login, hosts))
    ours, other = median(took["through"]), median(took["plain"])
    label = f"Ansible, {hosts} hosts at once on {agents} agents, multiplexer"
    return [Row(label, ours, "s", other, "s without", "<= 1.0x", ours <= other)]


def run(*, full: bool = True) -> list[Row]:
    with BenchUser() as user, Cluster.running() as cluster:
        return run_rows(cluster, user.name, 5, 10 if full else 4, 5 if full else 3)
