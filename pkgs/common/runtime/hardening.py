"""What a process that holds keys does to itself first: private files, no core dumps, enough descriptors."""

from __future__ import annotations

import contextlib
import ctypes
import os
import resource
from pathlib import Path
from typing import Final

from pkgs.common.runtime.limits import MAX_OPEN_FILES

_PR_SET_DUMPABLE: Final = 4
_ARG_START, _ARG_END = 48, 49
"""Fields of /proc/<pid>/stat, counted from 1: where the kernel finds the command line."""


def apply() -> None:
    """umask 077; neither a core file nor a debugger of the same user gets the memory; more open files."""
    os.umask(0o077)
    _, hard = resource.getrlimit(resource.RLIMIT_CORE)
    resource.setrlimit(resource.RLIMIT_CORE, (0, hard))
    ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0)
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = MAX_OPEN_FILES if hard == resource.RLIM_INFINITY else min(hard, MAX_OPEN_FILES)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def hide_argument(secret: str) -> None:
    """Stars in the place of a secret in this process's command line, which every user of the host can read
    in /proc. Call before `apply`, after which a process may not write to itself this way any more."""
    with contextlib.suppress(OSError):  # a host that forbids it may still be joined from
        _overwrite(secret)


def _overwrite(secret: str) -> None:
    stat = Path("/proc/self/stat").read_text().rpartition(")")[2].split()
    start, end = (int(stat[field - 3]) for field in (_ARG_START, _ARG_END))
    wanted = os.fsencode(secret)
    with Path("/proc/self/mem").open("r+b", buffering=0) as memory:
        memory.seek(start)
        text = memory.read(end - start)
        at = text.find(wanted)
        while at >= 0:
            memory.seek(start + at)
            memory.write(b"*" * len(wanted))
            at = text.find(wanted, at + len(wanted))
