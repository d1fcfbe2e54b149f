"""Recordings from the session to the auditor: verified, and noticed when they were changed."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.harness.cluster import OS_USER, Cluster, Person
from tests.harness.wait import wait_for
from tests.integration.terminal import Terminal


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


def test_words_on_the_screen_are_found_and_the_recording_exported(
    cluster: Cluster, alice: Person, session: str, tmp_path: Path
) -> None:
    alice.tsh("ssh", f"{OS_USER}@demo-node", "echo $((40 + 2))-shown-on-screen").ok()
    sid = recorded(cluster, "shown-on-screen")
    (hit,) = json.loads(cluster.tctl("recordings", "grep", "42-SHOWN", "--format=json").ok().out)
    assert (hit["session_id"], hit["user"], hit["text"]) == (sid, "alice", "42-shown-on-screen")
    assert sid in cluster.tctl("recordings", "grep", "42-shown").ok().out
    assert cluster.tctl("recordings", "grep", "never-shown").code == 1
    page = tmp_path / "page.html"
    cluster.tctl("recordings", "export", sid, "--format=html", "--out", page).ok()
    assert "42-shown-on-screen" in page.read_text()
    assert "42-shown-on-screen" in alice.tsh("play", sid, "--format=html").ok().out
    assert "alice" in alice.tsh("play", sid, "--format=yaml").ok().out


@pytest.mark.needs("asciinema")
def test_asciinema_plays_an_export(cluster: Cluster, session: str, tmp_path: Path) -> None:
    cast = tmp_path / "session.cast"
    cluster.tctl("recordings", "export", session, "--out", cast).ok()
    screen = Terminal(
        ["asciinema", "play", "--speed=50", str(cast)],
        {**cluster.env, "HOME": str(tmp_path), "TERM": "xterm", "LC_ALL": "C.UTF-8"},
    )
    screen.expect("an-uncommon-word")
    screen.expect("2000")
    assert screen.end() == 0


def test_old_recordings_are_pruned(cluster: Cluster, alice: Person, session: str) -> None:
    assert "0 recordings" in cluster.tctl("recordings", "prune", "--older-than=1h").ok().out
    dry = json.loads(
        cluster.tctl("recordings", "prune", "--older-than=1ms", "--dry-run", "--format=json").ok().out
    )
    assert session in [one["session_id"] for one in dry]
    assert alice.tsh("play", session, "--format=text").ok()
    cluster.tctl("recordings", "prune", "--older-than=1ms").ok()
    assert alice.tsh("play", session, "--format=text").code == 1
    told = cluster.wait_event("session.recording.delete", sid=session)
    assert told["reason"] == "pruned"
    cluster.tctl("audit", "verify").ok()
