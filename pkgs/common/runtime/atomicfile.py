"""Files that are either the old or the new content after a crash, and private from their first byte."""

from __future__ import annotations

import os
import secrets
from pathlib import Path

_PRIVATE_DIR = 0o700
_PRIVATE_FILE = 0o600


def make_private_dir(path: Path) -> None:
    """The folder exists afterwards and only its owner may look in. Refuses a folder of somebody else."""
    path.mkdir(mode=_PRIVATE_DIR, parents=True, exist_ok=True)
    found = path.stat()
    if found.st_uid not in (os.geteuid(), 0):
        raise PermissionError(f"{path} belongs to uid {found.st_uid}, not to the user running this program")
    if found.st_mode & 0o077 and found.st_uid == os.geteuid():
        path.chmod(_PRIVATE_DIR)


def write_atomic(path: Path, data: bytes, mode: int = _PRIVATE_FILE) -> None:
    """Replaces `path` by `data`, durably: temporary file with `mode`, fsync, rename, fsync of the folder."""
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(6)}")
    descriptor = os.open(
        temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600
    )
    try:
        try:
            view = memoryview(data)
            while view:
                view = view[os.write(descriptor, view) :]
            os.fchmod(descriptor, mode)
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    sync_dir(path.parent)


def sync_dir(path: Path) -> None:
    """Makes a rename or an unlink in this folder durable."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
