"""What is said of sessions whose service was killed: their ends are audited, once, by the next start."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator

import pytest

from tests.harness.cluster import OS_USER, Cluster, Person
from tests.harness.wait import wait_for

pytestmark = pytest.mark.needs("ssh")


@pytest.fixture
def cluster() -> Iterator[Cluster]:
    with Cluster.running() as made:
        yield made


def open_session(person: Person, *options: str) -> subprocess.Popen[bytes]:
    target = f"{OS_USER}@demo-node.demo"
    config = str(person.ssh_config())
    made = subprocess.Popen(
        ["ssh", "-F", config, *options, target, "echo up; cat"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        env={**person.env, "TELEPORT_NO_RESUME": "1"},
    )
    assert made.stdout is not None
    assert made.stdout.readline().strip() == b"up"
    return made


def test_sessions_of_a_killed_agent_are_ended_in_the_audit_once(cluster: Cluster) -> None:
    alice = cluster.login("alice")
    alice.ssh(f"{OS_USER}@demo-node.demo", "true").ok()
    sessions = [open_session(alice), open_session(alice, "-tt"), open_session(alice)]
    try:
        for _ in range(2):  # the second start finds nothing left to say
            cluster.daemons["ssh"].kill()
            for session in sessions:
                assert session.wait(15) == 255
            cluster.start_service("ssh")
            cluster.wait_node("demo-node")
            started = {event["sid"] for event in cluster.events("session.start")}
            assert len(started) == 4
            wait_for(lambda: len(cluster.events("session.end")) >= 4, what="the ends", every_s=0.3)
        ends = cluster.events("session.end")
        assert sorted(event["sid"] for event in ends) == sorted(started)
        cut = [event for event in ends if "service ended" in event.get("error", "")]
        assert len(cut) == 3
        assert all(event["participants"] == ["alice"] for event in cut)
    finally:
        for session in sessions:
            session.kill()
            session.communicate(timeout=10)
