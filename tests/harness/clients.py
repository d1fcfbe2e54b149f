"""Real clients as child processes: how a test ends one that still runs."""

from __future__ import annotations

import subprocess
from typing import Any


def stop(client: subprocess.Popen[Any]) -> None:
    """End a running client and read what is left of its output.

    OpenSSH before 9.3 looks for a signal and then waits without a mask: one that comes in between is slept
    over. With a multiplexing master that has just closed a session that is one time in twenty.
    """
    client.terminate()
    try:
        client.communicate(timeout=2)
    except subprocess.TimeoutExpired:
        client.kill()
        client.communicate(timeout=20)
