"""How many processes one user's sessions may have."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

_HOST = (Path("/proc/sys/kernel/pid_max"), Path("/proc/sys/kernel/threads-max"))
_OWN_GROUP = Path("/proc/self/cgroup")
_GROUPS = Path("/sys/fs/cgroup")
_SHARE = 2


def processes_of_one_user(wanted: int = 0) -> int:
    """Half of the processes that this service and all its sessions may have together: a fork bomb in one of
    them leaves the rest to the others. Or fewer, where fewer are `wanted`. 0: not known, so no bound."""
    half = share(read(path) for path in (*_HOST, *_group_files(read(_OWN_GROUP), _GROUPS)))
    return min(filter(None, (half, wanted)), default=0)


def share(texts: Iterable[str]) -> int:
    """Of the smallest of the numbers among these; anything else (`max`, nothing) is no bound."""
    numbers = [int(text) for text in map(str.strip, texts) if text.isascii() and text.isdecimal()]
    return min(numbers) // _SHARE if numbers else 0


def _group_files(own: str, root: Path) -> list[Path]:
    """`pids.max` of the own control group (version 2) and of all above it."""
    path = next((line.removeprefix("0::/") for line in own.splitlines() if line.startswith("0::/")), None)
    if path is None or ".." in Path(path).parts:
        return []
    group = root / path
    return [each / "pids.max" for each in (group, *group.parents) if each.is_relative_to(root)]


def read(path: Path) -> str:
    try:
        return path.read_text()
    except OSError:
        return ""
