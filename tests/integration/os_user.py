"""An ordinary OS user for tests that run as root: made when first asked for, removed at the process's end."""

from __future__ import annotations

import atexit
import functools
import os
import subprocess

OTHER = f"tps{os.getpid()}"


@functools.cache
def make_other() -> None:
    """Make `OTHER`, with a shell and a home of its own. Only root can; for anybody else nothing is done."""
    if os.geteuid() == 0:
        home = f"/var/tmp/{OTHER}"
        subprocess.run(["useradd", "-m", "-d", home, "-s", "/bin/bash", OTHER], check=True)
        atexit.register(subprocess.run, ["userdel", "-r", OTHER], capture_output=True)
