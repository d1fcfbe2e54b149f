# Clients name files in bytes, which pathlib does not take.
# ruff: noqa: PTH109, PTH118
"""What the service is told about a transfer: operations as they happen, files as they are closed."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass, field

from pkgs.agents.ssh.session.sftp.wire import Attributes, Flag


@dataclass(frozen=True, slots=True)
class Operation:
    """One operation, done or failed. Texts are for people: absolute, and inert whatever the bytes were."""

    name: str
    """open, setstat, opendir, readdir, remove, mkdir, rmdir, rename, symlink, link."""
    path: str
    target: str = ""
    error: str = ""
    """Empty: it worked."""
    flags: str = ""
    """Of an open: what for."""
    attributes: dict[str, str] = field(default_factory=dict)
    """What was to be set."""


_FLAGS = [(str(flag.name).lower(), flag.value) for flag in Flag]

Tell = Callable[[Operation], None]
Summary = Callable[[str, int, int], None]
"""A file was closed: its path, bytes read, bytes written."""


def shown(path: bytes) -> str:
    """A path as it stands in the audit."""
    absolute = os.path.normpath(path if path.startswith(b"/") else os.path.join(os.getcwdb(), path))
    return absolute.decode(errors="backslashreplace")


def shown_flags(wanted: int) -> str:
    """`read`, `write create truncate`..."""
    return " ".join(name for name, flag in _FLAGS if wanted & flag) or "read"


def shown_attributes(wanted: Attributes) -> dict[str, str]:
    found: dict[str, str] = {}
    if wanted.size is not None:
        found["size"] = str(wanted.size)
    if wanted.mode is not None:
        found["permissions"] = f"{wanted.mode:04o}"
    if wanted.owner is not None:
        found["uid"], found["gid"] = map(str, wanted.owner)
    if wanted.times is not None:
        found["access_time"], found["modification_time"] = map(str, wanted.times)
    return found
