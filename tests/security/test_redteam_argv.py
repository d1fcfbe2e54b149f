"""What every user of a host can read of our processes (attack A65)."""

from __future__ import annotations

import subprocess
from pathlib import Path

from tests.harness.cluster import BIN
from tests.harness.ports import free_port
from tests.harness.wait import wait_for


def test_a65_a_join_token_of_the_command_line_is_not_shown_by_the_process(short_tmp: Path) -> None:
    """A session's user on a node must not find there what lets another host join."""
    token = "5ecret5ecret5ecret5ecret5ecret55"
    process = subprocess.Popen(
        [
            BIN / "teleport-ssh",
            f"--data-dir={short_tmp}/data",
            f"--token={token}",
            f"--auth-server=127.0.0.1:{free_port()}",
            "--ca-pin=sha256:" + "0" * 64,
            "--nodename=spy-me",
        ],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        wait_for((short_tmp / "data" / "debug-ssh.sock").exists, what="the agent to run")
        shown = Path(f"/proc/{process.pid}/cmdline").read_bytes()
        assert b"--nodename=spy-me" in shown
        assert b"--token=" in shown
        assert token.encode() not in shown
    finally:
        process.terminate()
        process.wait(20)
