"""Servers that run OpenSSH and no agent, through a whole cluster: the real client and the real server."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from dataclasses import dataclass

import pytest
import yaml

from tests.harness.cluster import OS_USER, Cluster, Person
from tests.harness.sshd import NAME, Sshd
from tests.harness.wait import wait_for

pytestmark = pytest.mark.needs("sshd", "ssh")


@dataclass
class Agentless:
    cluster: Cluster
    sshd: Sshd
    alice: Person
    node_id: str


def describe(node_id: str, addr: str, hostname: str = NAME, **labels: str) -> str:
    return yaml.safe_dump(
        {
            "kind": "node",
            "sub_kind": "openssh",
            "version": "v2",
            "metadata": {"name": node_id, "labels": labels or {"env": "lab"}},
            "spec": {"addr": addr, "hostname": hostname},
        }
    )


def signed_host_key(cluster: Cluster, name: str = NAME) -> tuple[str, bytes]:
    """A host certificate and its key, made as an administrator makes them."""
    out = cluster.dir / f"host-{uuid.uuid4().hex[:8]}"
    cluster.tctl("auth", "sign", f"--host={name}", "--format=openssh", f"--out={out}").ok()
    return out.with_name(out.name + "-cert.pub").read_text().strip(), out.read_bytes()


@pytest.fixture(scope="module")
def world() -> Iterator[Agentless]:
    with Cluster.running(services=("auth", "proxy")) as cluster:
        users = cluster.tctl("auth", "export", "--type=openssh").ok().out.strip()
        certificate, pem = signed_host_key(cluster)
        node_id = str(uuid.uuid4())
        with Sshd(cluster.dir / "sshd", users, host_cert=certificate, host_pem=pem) as sshd:
            cluster.tctl("create", stdin=describe(node_id, sshd.addr)).ok()
            alice = cluster.login("alice")
            wait_for(lambda: NAME in alice.tsh("ls").out, what="the server in tsh ls")
            yield Agentless(cluster, sshd, alice, node_id)


def test_a_command_runs_and_is_recorded_and_audited(world: Agentless) -> None:
    done = world.alice.tsh("ssh", f"{OS_USER}@{NAME}", "echo in; echo out >&2; exit 5")
    assert (done.out, done.code) == ("in\n", 5), done.err
    assert "out\n" in done.err
    start = world.cluster.wait_event("session.start", server_hostname=NAME)
    assert start["user"] == "alice" and start["login"] == OS_USER
    world.cluster.wait_event("exec", sid=start["sid"], exitCode="5")
    world.cluster.wait_event("session.end", sid=start["sid"])
    world.cluster.wait_event("session.upload", sid=start["sid"])
    play = world.cluster.tctl("recordings", "ls").ok().out
    assert start["sid"] in play
    made = [e for e in world.cluster.events("cert.create") if "openssh" in str(e.get("identity"))]
    assert made and made[-1]["user"] == "alice"


def test_stock_ssh_jumps_there_with_input_and_a_terminal(world: Agentless) -> None:
    config = world.alice.ssh_config()
    assert config.exists()
    done = world.alice.ssh(f"{OS_USER}@{NAME}.demo", "cat", stdin="x" * 100_000)
    assert done.out == "x" * 100_000, done.err
    shown = world.alice.ssh("-tt", f"{OS_USER}@{NAME}.demo", "tty; echo $TERM")
    assert "/dev/pts/" in shown.out, shown.err
