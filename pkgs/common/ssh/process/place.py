"""Where a connection's process lives, with all that it starts: taken before it reads a byte of its peer."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

_LEAST, _ABOVE, _MOST = 0, 100, 1000
_SCORE = Path("/proc/self/oom_score_adj")


def take_place(group: str) -> None:
    """Enter a control group, where one was made for this connection; raises OSError when that fails. And let
    the kernel end this before the service when memory runs out: a tenth of the memory counts against it, or
    nothing where the service is spared."""
    if group:
        Path(group, "cgroup.procs").write_text("0")
    with suppress(OSError, ValueError):
        _SCORE.write_text(str(session_score(int(_SCORE.read_text()))))


def session_score(service: int) -> int:
    """`oom_score_adj` of what runs for users, from that of the service."""
    return min(max(_LEAST, service + _ABOVE), _MOST)
