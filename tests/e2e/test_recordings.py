"""Recordings from the session to the auditor: verified, and noticed when they were changed."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.harness.cluster import OS_USER, Cluster, Person
from tests.harness.wait import wait_for


def recorded(cluster: Cluster, words: str) -> str:
    """The id of the recorded session with these words in its command."""

    def found() -> str | None:
        listing = json.loads(cluster.tctl("recordings", "ls", "--format=json").ok().out)
        return next((one["session_id"] for one in listing if words in one["command"]), None)

    return wait_for(found, what=f"the recording of {words!r}", every_s=0.2)


@pytest.fixture(scope="module")
def session(cluster: Cluster, alice: Person) -> str:
    alice.tsh("ssh", f"{OS_USER}@demo-node", "echo an-uncommon-word; seq 2000").ok()
    return recorded(cluster, "an-uncommon-word")


def test_a62_a_recording_is_verified_and_a_changed_one_is_not(
    cluster: Cluster, session: str, tmp_path: Path
) -> None:
    out = cluster.tctl("recordings", "verify", session).ok().out
    assert "verified" in out
    assert session in out
    saved = tmp_path / "saved.rec"
    cluster.tctl("recordings", "download", session, "--out", saved).ok()
    raw = saved.read_bytes()
    for name, changed, state in (
        ("changed", raw[:-300] + bytes([raw[-300] ^ 1]) + raw[-299:], "damaged"),
        ("cut", raw[: len(raw) // 2], "cut"),
    ):
        copy = tmp_path / name
        copy.write_bytes(changed)
        answer = cluster.tctl("recordings", "verify", saved, copy, "--format=json")
        assert answer.code == 1
        assert [one["state"] for one in json.loads(answer.out)] == ["verified", state]
