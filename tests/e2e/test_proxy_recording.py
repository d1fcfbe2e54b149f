"""Recording mode `proxy` with agents: the proxy ends a user's SSH and records, the agent decides as ever."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator

import pytest

from tests.harness.cluster import OS_USER, Cluster, Person, run
from tests.harness.wait import wait_for

pytestmark = pytest.mark.needs("ssh", "sftp")
NAME = "demo-node"


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    with Cluster.running(overrides={"auth_service": {"session_recording": "proxy"}}) as cluster:
        yield cluster


@pytest.fixture(scope="module")
def alice(cluster: Cluster) -> Person:
    alice = cluster.login("alice")
    wait_for(lambda: NAME in alice.tsh("ls").out, what="the server in tsh ls")
    return alice


def test_a_session_is_recorded_and_told_of_once_by_the_proxy(cluster: Cluster, alice: Person) -> None:
    done = alice.tsh("ssh", f"{OS_USER}@{NAME}", "echo in $SSH_SESSION_ID; echo out >&2; exit 5")
    assert done.code == 5 and "out\n" in done.err, done.err
    sid = done.out.split()[1]
    cluster.wait_event("session.upload", sid=sid)
    for kind in ("session.start", "session.end", "exec"):
        (event,) = (e for e in cluster.events(kind) if e["user"] == "alice")
        assert event["sid"] == sid
    assert f"in {sid}" in cluster.tctl("recordings", "export", sid, "--format=text").ok().out
