"""A control group (version 2) for each connection, with bounds for its memory and its processes.

    <the service's own group, delegated to it>/teleport-service       what was in it: the service, the spawner
                                              /teleport-session-ID    one connection and all it started

Flat, because a group with members may give no controllers to those below it, and because systemd can then
take the whole back. What is still running in a group after its connection stays in it, bounded; the group
goes with the last of them, or at the next start. systemd's mark is asked for: a service that only happens to
be able to write there must not rearrange what belongs to others.
"""

from __future__ import annotations

import logging
import os
import uuid
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

_OWN = Path("/proc/self/cgroup")
_MOUNTS = Path("/proc/self/mountinfo")
_MARKS = ("user.delegate", "trusted.delegate")
"""Extended attributes by which systemd says that a group is the service's own to divide."""
_SERVICE = "teleport-service"
_SESSION = "teleport-session-"
_SWEEPS = 16
"""Rounds of moving what is in the own group: its processes may fork meanwhile."""


@dataclass(frozen=True, slots=True)
class Bounds:
    """Of one connection and all it starts; 0: unbounded."""

    memory: int = 0
    """Bytes."""
    processes: int = 0

    @property
    def files(self) -> dict[str, str]:
        """What is written where."""
        wanted = {"memory.max": self.memory, "pids.max": self.processes}
        return {name: str(value) for name, value in wanted.items() if value}

    @property
    def controllers(self) -> set[str]:
        return {name.partition(".")[0] for name in self.files}


class Unbounded(Exception):
    """This host gives connections no control groups; the text says why."""


class Groups:
    """All of one service. Made by `prepare`."""

    def __init__(self, root: Path, bounds: Bounds, log: logging.Logger) -> None:
        self._root = root
        self._bounds = bounds
        self._log = log
        self._left: set[Path] = set()

    def open(self) -> str:
        """A new group's path; empty, with a line in the log, when there can be none now."""
        group = self._root / f"{_SESSION}{uuid.uuid4().hex}"
        try:
            group.mkdir()
            for name, value in self._bounds.files.items():
                (group / name).write_text(value)
        except OSError as problem:
            self._log.error("a connection has no bounds of its own: %s", problem)
            self.close(str(group))
            return ""
        return str(group)

    def close(self, group: str) -> None:
        """Its connection is over: remove it as soon as nothing runs in it."""
        self._left.add(Path(group))
        self.sweep()

    def sweep(self) -> None:
        """Remove what could not be removed before."""
        for path in tuple(self._left):
            if _remove(path):
                self._left.discard(path)

    def release(self) -> None:
        """The service ends: its group is as it was, for whoever starts it again."""
        for path in self._root.glob(f"{_SESSION}*"):
            _remove(path)
        with suppress(OSError):
            _control(self._root, "-", self._bounds.controllers)


def prepare(bounds: Bounds, log: logging.Logger, own: Path = _OWN, mounts: Path = _MOUNTS) -> Groups | None:
    """None: nothing is to be bounded, or the host allows no groups, which the log then says once."""
    if not bounds.files:
        return None
    try:
        root = _delegated(own.read_text(), mounts.read_text())
        _divide(root, bounds)
    except (Unbounded, OSError) as problem:
        log.warning(
            "connections have no memory and processes of their own: %s; ssh_service.session_memory has no"
            " effect, ssh_service.session_processes bounds each user (see docs/systemd.md)",
            problem,
        )
        return None
    return Groups(root, bounds, log)


def _delegated(own: str, mounts: str) -> Path:
    """The group that is this service's to divide. Raises Unbounded."""
    name = next((line.removeprefix("0::") for line in own.splitlines() if line.startswith("0::")), None)
    mount = next((found for line in mounts.splitlines() if (found := _unified(line))), None)
    if name is None or mount is None or ".." in Path(name).parts:
        raise Unbounded("this host has no control groups of version 2")
    group = mount / name.lstrip("/")
    if group.name == _SERVICE:  # started again inside
        group = group.parent
    if not any(_marked(group, mark) for mark in _MARKS):
        raise Unbounded(f"the control group {name} is not delegated to this service")
    return group


def _unified(line: str) -> Path | None:
    """Where a line of mountinfo says that the hierarchy of version 2 is."""
    before, _, after = line.partition(" - ")
    fields = before.split(" ")
    if after.split(" ")[0] != "cgroup2" or len(fields) < 5:
        return None
    return Path(fields[4])


def _marked(group: Path, mark: str) -> bool:
    try:
        return os.getxattr(group, mark) == b"1"
    except OSError:
        return False


def _divide(root: Path, bounds: Bounds) -> None:
    """Make room for groups of connections below the service's. Raises Unbounded, OSError."""
    offered = set((root / "cgroup.controllers").read_text().split())
    if missing := bounds.controllers - offered:
        raise Unbounded(f"the control group has no controller for {' and '.join(sorted(missing))}")
    for path in root.glob(f"{_SESSION}*"):  # of one that was killed
        _remove(path)
    service = root / _SERVICE
    service.mkdir(exist_ok=True)
    for _ in range(_SWEEPS):
        members = (root / "cgroup.procs").read_text().split()
        if not members:
            break
        for pid in members:
            with suppress(ProcessLookupError):
                (service / "cgroup.procs").write_text(pid)
    _control(root, "+", bounds.controllers)


def _control(root: Path, sign: str, controllers: set[str]) -> None:
    (root / "cgroup.subtree_control").write_text(" ".join(f"{sign}{name}" for name in sorted(controllers)))


def _remove(group: Path) -> bool:
    """Whether it is gone."""
    try:
        group.rmdir()
    except FileNotFoundError:
        return True
    except OSError:
        return False  # something runs in it
    return True
