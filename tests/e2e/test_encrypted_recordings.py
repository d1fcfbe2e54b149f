"""Recordings that nobody but the Auth Service can read, from the session to the auditor."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

from tests.e2e.test_recordings import recorded
from tests.harness.clients import stop
from tests.harness.cluster import OS_USER, Cluster, Person
from tests.harness.wait import wait_for

ENCRYPT = """kind: session_recording_config
version: v2
metadata: {name: session-recording-config}
spec: {mode: MODE, encryption: {enabled: true}}
"""
MAGIC = b"\x89OAREC\r\n\x00\x02"


def begun(person: Person, command: str) -> subprocess.Popen[bytes]:
    """A session that runs this."""
    argv = ["ssh", "-F", str(person.ssh_config()), f"{OS_USER}@demo-node.demo", command]
    env = {**person.env, "TELEPORT_NO_RESUME": "true"}
    return subprocess.Popen(argv, env=env, stdin=subprocess.PIPE, stdout=subprocess.PIPE)


def in_the_clear(folder: Path, word: bytes) -> list[Path]:
    """Files in which the word can be read, whoever it is that reads them."""
    return [path for path in folder.rglob("*") if path.is_file() and word in path.read_bytes()]


def session_is_encrypted_from_its_first_byte_and_read_by_who_may(
    cluster: Cluster, alice: Person, tmp_path: Path
) -> None:
    alice.tsh("ssh", f"{OS_USER}@demo-node", "echo $((20 + 1))-before").ok()
    clear = recorded(cluster, "before")
    cluster.tctl("create", "-f", stdin=ENCRYPT.replace("MODE", "node")).ok()
    upload = cluster.data_dir / "log" / "upload"

    def encrypted_part() -> bytes | None:
        """A session that runs, and what its agent has written of it; again until it has heard of it."""
        before = set(upload.glob("*.part"))
        session = begun(alice, "echo $((40 + 2))-secret; exec cat")
        try:
            assert session.stdout is not None
            assert session.stdout.readline() == b"42-secret\n"
            (part,) = wait_for(lambda: set(upload.glob("*.part")) - before, what="the recording's file")
            # Its first second, and so a frame with what was shown.
            wait_for(lambda: part.stat().st_size > 900, what="what was shown to be written")
            raw = part.read_bytes()
            return raw if raw.startswith(MAGIC) else None
        finally:
            stop(session)

    raw = wait_for(encrypted_part, what="an encrypted recording", deadline_s=60)
    for word in (b"42-secret", b"alice", OS_USER.encode()):
        assert word not in raw

    alice.tsh("ssh", f"{OS_USER}@demo-node", "echo $((40 + 3))-hidden").ok()
    sid = recorded(cluster, "-hidden")
    stored = cluster.data_dir / "recordings"
    assert (stored / f"{sid}.rec").read_bytes().startswith(MAGIC)
    assert in_the_clear(cluster.data_dir, b"43-hidden") == []
    assert in_the_clear(cluster.data_dir, b"21-before") != [], "the index of what was recorded before"

    assert "43-hidden" in alice.tsh("play", sid, "--format=text").ok().out
    assert "21-before" in alice.tsh("play", clear, "--format=text").ok().out
    (hit,) = json.loads(cluster.tctl("recordings", "grep", "43-HIDDEN", "--format=json").ok().out)
    assert hit["session_id"] == sid
    (hit,) = json.loads(cluster.tctl("recordings", "grep", "21-before", "--format=json").ok().out)
    assert hit["session_id"] == clear
    assert "verified" in cluster.tctl("recordings", "verify", sid).ok().out
    saved, stolen = tmp_path / "saved.rec", stored / f"{sid}.rec"
    cluster.tctl("recordings", "download", sid, "--out", saved).ok()
    assert "verified" in cluster.tctl("recordings", "verify", saved).ok().out
    assert "43-hidden" in cluster.tctl("recordings", "export", sid, "--format=text").ok().out
    theft = alice.tsh("play", str(stolen), "--format=text")
    assert "43-hidden" not in theft.out
    assert "encrypted" in theft.out + theft.err
    assert "encrypted" in cluster.tctl("recordings", "verify", stolen).out
    mallory = cluster.login("mallory", roles="access")
    assert mallory.tsh("play", sid, "--format=text").code == 1


def key_rotates_and_older_recordings_stay_readable(cluster: Cluster, alice: Person) -> None:
    def keys() -> list[str]:
        shown = json.loads(cluster.tctl("recordings", "encryption", "status", "--format=json").ok().out)
        assert shown["enabled"]
        return [key["state"] for key in shown["keys"]]

    first = recorded(cluster, "-hidden")
    assert keys() == ["active"]
    assert cluster.tctl("recordings", "encryption", "complete-rotation").code == 1
    cluster.tctl("recordings", "encryption", "rotate").ok()
    assert keys() == ["active", "next"]
    assert "already" in cluster.tctl("recordings", "encryption", "rotate").err
    cluster.tctl("recordings", "encryption", "rollback-rotation").ok()
    assert keys() == ["active"]
    cluster.tctl("recordings", "encryption", "rotate").ok()
    done = cluster.tctl("recordings", "encryption", "complete-rotation").ok()
    assert "opens older recordings" in done.out
    assert keys() == ["rotated", "active"]
    told = cluster.get("session_recording_config")[0]["status"]["encryption_keys"]
    assert len(told) == 1

    def by_the_new_key() -> bool:
        alice.tsh("ssh", f"{OS_USER}@demo-node", "echo $((40 + 4))-later").ok()
        sid = recorded(cluster, "-later")
        assert "44-later" in alice.tsh("play", sid, "--format=text").ok().out
        raw = (cluster.data_dir / "recordings" / f"{sid}.rec").read_bytes()
        return told[0]["public_key"].encode() in raw

    wait_for(by_the_new_key, what="a recording for the new key", deadline_s=60)
    cluster.daemons["auth"].kill()
    cluster.start_service("auth")
    assert "43-hidden" in alice.tsh("play", first, "--format=text").ok().out
    assert "PRIVATE" not in cluster.tctl("get", "recording_encryption").ok().out.upper()
    assert "cannot be deleted" in cluster.tctl("rm", "recording_encryption").err


def agent_that_dies_leaves_an_encrypted_recording_up_to_its_last_frame(
    cluster: Cluster, alice: Person
) -> None:
    upload = cluster.data_dir / "log" / "upload"
    script = "for i in $(seq 200); do echo line-$((i + 1000)); sleep 0.2; done"
    session = begun(alice, script)
    try:

        def some() -> Path | None:
            return next((path for path in upload.glob("*.part") if path.stat().st_size > 1200), None)

        part = wait_for(some, what="some frames on the agent's disk")
        cluster.daemons["ssh"].kill()
        assert b"line-100" not in part.read_bytes()
    finally:
        stop(session)
    sid = part.stem
    cluster.start_service("ssh")

    def played() -> bool:
        out = alice.tsh("play", sid, "--format=text")
        return out.code == 0 and "line-1001" in out.out

    wait_for(played, what="the cut recording to be uploaded and played", deadline_s=30, every_s=0.5)
    assert "cut after" in cluster.tctl("recordings", "verify", sid).out
    assert not list(upload.glob(f"{sid}*"))


def test_recordings_of_an_encrypting_cluster(own_cluster: Cluster, tmp_path: Path) -> None:
    """One cluster for all steps, which restart parts of it."""
    own_cluster.start()
    alice = own_cluster.login("alice", roles="access,editor,auditor")
    session_is_encrypted_from_its_first_byte_and_read_by_who_may(own_cluster, alice, tmp_path)
    key_rotates_and_older_recordings_stay_readable(own_cluster, alice)
    agent_that_dies_leaves_an_encrypted_recording_up_to_its_last_frame(own_cluster, alice)
