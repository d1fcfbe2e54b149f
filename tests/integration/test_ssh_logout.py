"""Logging out of a terminal while background jobs hold it: at once, as with OpenSSH, and nothing is cut."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator

import pytest

from tests.integration.ssh_kit import SshNode, recording_of, wait_until

pytestmark = [
    pytest.mark.needs("bash"),
    pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to become other users"),
]
QUIET = "sleep 30 &"
CHATTY = "(for i in $(seq 300); do echo noise; sleep 0.1; done) &"


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SshNode]:
    with SshNode(tmp_path_factory.mktemp("node")) as node:
        yield node


@pytest.mark.parametrize(("job", "within_s"), [(QUIET, 3.0), (CHATTY, 8.0)], ids=["quiet", "chatty"])
def test_background_jobs_do_not_hold_a_terminal(node: SshNode, job: str, within_s: float) -> None:
    with node.user("lea").logged_in() as transport:
        channel = transport.open_session()
        channel.get_pty()
        channel.exec_command("exec bash --norc -i")
        channel.sendall(f"trap '' HUP; {job}\n".encode())
        channel.sendall(b"seq 5000; echo pid=$!; exit 5\n")
        began = time.monotonic()
        seen = b""
        while piece := channel.recv(65536):
            seen += piece
        assert channel.recv_exit_status() == 5
        assert time.monotonic() - began < within_s
        assert b"\r\n5000\r\n" in seen
    pid = int(seen.rpartition(b"pid=")[2].split()[0])
    os.kill(pid, 9)  # it lives: only the terminal is gone
    sessions = wait_until(lambda: node.events.named("session.end"), "its end")
    assert sessions
    assert b"\r\n5000\r\n" in recording_of(node, "lea").output
