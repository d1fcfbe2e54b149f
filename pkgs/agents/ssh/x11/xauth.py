"""The file in which X clients find the cookie of a display, written by `xauth`, as the login's user."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

from pkgs.agents.ssh.x11.cookie import PROTOCOL
from pkgs.agents.ssh.x11.limits import XAUTH_S
from pkgs.common.errors import UnavailableError

_PATH = "/usr/local/bin:/usr/bin:/bin:/usr/X11R6/bin"


def write(file: Path, display: str, cookie: str) -> None:
    """Make the file, for this display only. Raises UnavailableError."""
    program = shutil.which("xauth", path=_PATH)
    if program is None:
        raise UnavailableError("xauth is not installed on this host")
    line = f"add {display} {PROTOCOL} {cookie}\n"  # by its input: arguments are for all to see
    try:
        done = subprocess.run(
            [program, "-q", "-f", str(file), "-"],
            input=line.encode(),
            capture_output=True,
            timeout=XAUTH_S,
            env={"PATH": _PATH},
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        raise UnavailableError("xauth cannot be run on this host") from None
    if done.returncode != 0 or not file.exists():
        raise UnavailableError(f"xauth failed with status {done.returncode}")
