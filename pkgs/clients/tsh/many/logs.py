"""`--log-dir`: one file per server and stream, with the very bytes that the server sent."""

from __future__ import annotations

import os
import re

from pkgs.common.errors import InputError

_SAFE = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,199}\Z")


def plain_names(servers: list[tuple[str, str]]) -> list[str]:
    """A name for the lines and files of each (host name, id): the host name where it is a plain one and
    nobody else's, else the id. Host names come from the servers: none may leave the folder, take another's
    file or pose as another."""
    # attack A56
    counts: dict[str, int] = {}
    for hostname, host_id in servers:
        for name in {hostname.lower(), host_id.lower()}:
            counts[name] = counts.get(name, 0) + 1
    return [
        hostname if _SAFE.match(hostname) and counts[hostname.lower()] == 1 else host_id
        for hostname, host_id in servers
    ]


def open_log(folder: str, name: str, stream: str) -> int:
    """A descriptor of `folder/name.stream`, private, emptied; never through a symbolic link."""
    if not _SAFE.match(name):
        raise InputError(f"{name[:80]!r} can't be a file's name", hint="leave out --log-dir for this server")
    flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC
    return os.open(f"{folder}/{name}.{stream}", flags, 0o600)


def make_folder(folder: str) -> None:
    """Make the folder, private, if it is not there."""
    os.makedirs(folder, mode=0o700, exist_ok=True)  # noqa: PTH103


def write_all(descriptor: int, data: bytes) -> None:
    """Write everything; OSError when the disk is full."""
    view = memoryview(data)
    while view:
        view = view[os.write(descriptor, view) :]
