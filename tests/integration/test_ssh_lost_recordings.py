"""Recordings whose files are taken away or have no room: what the session and its record make of it (F22)."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from pkgs.common.recording.encrypted.keys import AgeKey, new_private_key
from pkgs.common.recording.encrypted.reading import decrypted
from pkgs.common.recording.model import Output
from pkgs.common.recording.reader import decode_chunks
from pkgs.common.resources.kinds import (
    EncryptionKey,
    RecordingConfig,
    RecordingEncryption,
    RecordingSpec,
    RecordingStatus,
)
from pkgs.common.resources.metadata import Metadata
from pkgs.common.resources.role import RecordSession
from tests.integration.ssh_kit import SshNode, change_role, ended, recording_of, wait_until

pytestmark = [
    pytest.mark.needs("ssh"),
    pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to become other users"),
]


@pytest.fixture
def node(tmp_path: Path) -> Iterator[SshNode]:
    with SshNode(tmp_path) as node:
        yield node


def test_f22_a_recording_that_is_taken_away_hurts_no_other_session(node: SshNode, tmp_path: Path) -> None:
    change_role(node, "access", record_session=RecordSession(ssh="best_effort"))
    with node.user("mia").logged_in() as transport:
        first, second = transport.open_session(), transport.open_session()
        first.exec_command("read line; echo bye")
        second.exec_command("cat")
        wait_until(lambda: len(node.events.named("session.start")) == 2, "both to start")
        shutil.rmtree(tmp_path / "upload")
        first.sendall(b"\n")
        assert first.recv_exit_status() == 0
        wait_until(lambda: len(node.events.named("session.end")) == 1, "the first one's end")
        second.sendall(b"still here\n")
        assert second.recv(100) == b"still here\n"
    wait_until(lambda: len(node.events.named("session.end")) == 2, "the second one's end")
    assert all(
        "recording is lost" in str(event.fields["error"]) for event in node.events.named("session.end")
    )
    # The next session is recorded again.
    node.user("noa").ssh("echo again")
    assert b"again" in recording_of(node, "noa").output


def test_without_a_key_a_strict_session_is_refused_and_another_goes_unrecorded(
    node: SshNode, tmp_path: Path
) -> None:
    key = AgeKey(new_private_key())

    def encrypt(*keys: str) -> None:
        node.state.recording_config = RecordingConfig(
            metadata=Metadata(name="session-recording-config"),
            spec=RecordingSpec(encryption=RecordingEncryption(enabled=True)),
            status=RecordingStatus(encryption_keys=[EncryptionKey(public_key=one) for one in keys]),
        )

    encrypt()
    change_role(node, "access", record_session=RecordSession(default="strict"))
    done = node.user("kim").ssh("echo ran")
    assert done.returncode != 0
    assert b"ran" not in done.stdout
    assert b"must be recorded" in done.stderr
    change_role(node, "access", record_session=RecordSession(default="best_effort"))
    assert b"ran" in node.user("kai").ssh("echo ran").stdout
    assert node.uploads.finished == {}
    assert list((tmp_path / "upload").iterdir()) == []
    encrypt(key.public_key)
    assert b"shown" in node.user("kay").ssh("echo shown").stdout
    sid = str(ended(node, "kay").fields["sid"])
    wait_until(lambda: sid in node.uploads.finished, "the recording")
    raw = node.uploads.finished[sid]
    assert b"kay" not in raw
    plain = decrypted([raw], lambda wrapped: key.open(wrapped.envelope), sid)
    assert b"shown" in b"".join(item.data for item in decode_chunks(plain) if isinstance(item, Output))


@pytest.fixture
def small(tmp_path: Path) -> Iterator[SshNode]:
    """A node whose recordings have 256 KiB of room, and nowhere to go."""
    upload = tmp_path / "upload"
    upload.mkdir(mode=0o700)
    options = "size=256k,mode=0700"
    subprocess.run(["mount", "-t", "tmpfs", "-o", options, "none", upload], check=True)
    try:
        with SshNode(tmp_path) as node:
            yield node
    finally:
        subprocess.run(["umount", "-l", upload], check=True)


FLOOD = "head -c 900000 /dev/urandom | base64 -w 0; echo; echo end"


def test_f22_a_full_disk_is_told_in_the_sessions_end(small: SshNode) -> None:
    change_role(small, "access", record_session=RecordSession(ssh="best_effort"))
    done = small.user("olga").ssh(FLOOD, before=("-tt",))
    assert done.returncode == 0
    assert done.stdout.endswith(b"end\r\n")
    end = ended(small, "olga").fields
    assert "No space left" in str(end["error"])
    assert end["session_recording"] == "off"


def test_f22_a_full_disk_ends_a_strict_session_and_says_why(small: SshNode) -> None:
    change_role(small, "access", record_session=RecordSession(ssh="strict"))
    done = small.user("pia").ssh(FLOOD, before=("-tt",))
    assert done.returncode == 255
    assert b"must be recorded" in done.stderr
    assert "No space left" in str(ended(small, "pia").fields["error"])
