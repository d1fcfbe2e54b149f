"""What a process that holds keys does to itself first: private files, no core dumps, enough descriptors."""

from __future__ import annotations

import ctypes
import os
import resource
from typing import Final

from pkgs.common.runtime.limits import MAX_OPEN_FILES

_PR_SET_DUMPABLE: Final = 4


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
