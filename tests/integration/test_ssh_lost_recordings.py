"""Recordings whose files are taken away or have no room: what the session and its record make of it (F22)."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

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
