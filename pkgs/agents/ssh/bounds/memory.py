"""Who goes first when the host's memory runs out: never the service, whose end is that of all sessions."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

SCORE = -500
"""Of the service and of what forks its connections; those raise theirs (`common/ssh/process/place`)."""
_OWN = Path("/proc/self/oom_score_adj")


def protect_service(path: Path = _OWN) -> None:
    """Have the kernel spare this process. Needs CAP_SYS_RESOURCE; without it sessions still come first."""
    with suppress(OSError, ValueError):
        if int(path.read_text()) > SCORE:
            path.write_text(str(SCORE))
