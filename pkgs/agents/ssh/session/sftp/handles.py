"""The files and folders that a client holds open, by the handles it was given."""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Iterator
from dataclasses import dataclass

from pkgs.agents.ssh.session.sftp.audited import Summary, shown
from pkgs.agents.ssh.session.sftp.limits import MAX_HANDLES
from pkgs.agents.ssh.session.sftp.wire import Refusal, Status
from pkgs.common.ssh.wire import Reader


@dataclass(slots=True)
class File:
    path: bytes
    fd: int
    append: bool
    read: int = 0
    written: int = 0


@dataclass(slots=True)
class Directory:
    path: bytes
    names: Iterator[bytes]
    first: bool = True


class Handles:
    """At most MAX_HANDLES of both together."""

    def __init__(self, summary: Summary) -> None:
        self._summary = summary
        self._open: dict[bytes, File | Directory] = {}
        self._next = 0

    def check_room(self) -> None:
        """Raises OSError when no more can be opened."""
        if len(self._open) >= MAX_HANDLES:
            raise OSError(errno.EMFILE, "too many open files")

    def keep(self, opened: File | Directory) -> bytes:
        self._next += 1
        handle = self._next.to_bytes(4, "big")
        self._open[handle] = opened
        return handle

    def file(self, reader: Reader) -> File:
        """The file whose handle comes next. Raises Refusal."""
        found = self._open.get(reader.string())
        if not isinstance(found, File):
            raise Refusal(Status.FAILURE, "no such handle")
        return found

    def directory(self, reader: Reader) -> Directory:
        found = self._open.get(reader.string())
        if not isinstance(found, Directory):
            raise Refusal(Status.FAILURE, "no such handle")
        return found

    def forget(self, handle: bytes) -> None:
        """Close it. Raises Refusal, or OSError when the file system only now says that a write failed."""
        opened = self._open.pop(handle, None)
        if opened is None:
            raise Refusal(Status.FAILURE, "no such handle")
        if isinstance(opened, File):
            try:
                os.close(opened.fd)
            finally:
                self._summary(shown(opened.path), opened.read, opened.written)

    def close(self) -> None:
        """Close what the client left open."""
        for handle in list(self._open):
            with contextlib.suppress(OSError):
                self.forget(handle)
