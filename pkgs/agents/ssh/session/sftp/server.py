# Clients name files in bytes, which pathlib does not take.
# ruff: noqa: PTH102, PTH106, PTH108, PTH115, PTH116, PTH118, PTH208, PTH211
"""SFTP operations on the file system, as the user that this process has become.

Paths mean what they mean to that user in a shell, starting at the home: the kernel's permissions are the
border (attack A56), nothing here runs with more. Each operation is told to `tell`; bytes are counted.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat
from collections.abc import Callable, Iterator
from dataclasses import replace

from pkgs.agents.ssh.session.sftp import extensions, filesystem, wire
from pkgs.agents.ssh.session.sftp.audited import (
    Operation,
    Summary,
    Tell,
    shown,
    shown_attributes,
    shown_flags,
)
from pkgs.agents.ssh.session.sftp.handles import Directory, File, Handles
from pkgs.agents.ssh.session.sftp.limits import MAX_DATA, NAMES_PER_REPLY
from pkgs.agents.ssh.session.sftp.wire import Attributes, Flag, Op, Refusal, Status
from pkgs.common.ssh.wire import Reader, WireError

_OPEN_FLAGS = {
    Flag.APPEND: os.O_APPEND,
    Flag.CREATE: os.O_CREAT,
    Flag.TRUNCATE: os.O_TRUNC,
    Flag.EXCLUSIVE: os.O_EXCL,
}
_ACCESS = {Flag.WRITE: os.O_WRONLY, Flag.READ | Flag.WRITE: os.O_RDWR}


class FileServer:
    """Answers requests one by one. Not for use by several threads at once."""

    def __init__(self, tell: Tell, summary: Summary, is_wanted: Callable[[], bool] = lambda: True) -> None:
        """`is_wanted` is asked in what takes long: whether the client is still there to wait for it."""
        self._tell = tell
        self.handles = Handles(summary)
        self.is_wanted = is_wanted
        self._started = False
        self._operations: dict[int, Callable[[int, Reader], bytes]] = {
            Op.OPEN: self._open,
            Op.CLOSE: self._close,
            Op.READ: self._read,
            Op.WRITE: self._write,
            Op.LSTAT: lambda n, r: wire.attributes_packet(n, os.lstat(wire.read_path(r))),
            Op.STAT: lambda n, r: wire.attributes_packet(n, os.stat(wire.read_path(r))),
            Op.FSTAT: lambda n, r: wire.attributes_packet(n, os.fstat(self.handles.file(r).fd)),
            Op.SETSTAT: self._setstat,
            Op.FSETSTAT: self._fsetstat,
            Op.OPENDIR: self._opendir,
            Op.READDIR: self._readdir,
            Op.REMOVE: self._remove,
            Op.MKDIR: self._mkdir,
            Op.RMDIR: self._rmdir,
            Op.REALPATH: lambda n, r: wire.path_packet(n, filesystem.real_path(wire.read_path(r))),
            Op.RENAME: self._rename,
            Op.READLINK: lambda n, r: wire.path_packet(n, os.readlink(wire.read_path(r))),
            Op.SYMLINK: self._symlink,
            Op.EXTENDED: lambda n, r: extensions.answer(self, n, r),
        }

    def answer(self, kind: int, body: bytes) -> bytes:
        """The reply to one packet. Raises WireError for what is no request at all."""
        reader = Reader(body)
        if not self._started:
            if kind != Op.INIT:
                raise WireError("SFTP must begin with its version")
            self._started = True
            return wire.version_packet(extensions.OFFERED)
        request = reader.uint32()
        operation = self._operations.get(kind)
        if operation is None:
            return wire.status_packet(request, Status.UNSUPPORTED)
        try:
            return operation(request, reader)
        except Refusal as refusal:
            return wire.status_packet(request, refusal.status, refusal.text)
        except OSError as problem:
            return wire.status_packet(request, filesystem.status_of(problem), problem.strerror or "")
        except WireError as problem:
            return wire.status_packet(request, Status.BAD_MESSAGE, problem.message)

    def close(self) -> None:
        """Close what the client left open."""
        self.handles.close()

    @contextlib.contextmanager
    def audited(
        self,
        operation: str,
        path: bytes,
        target: bytes = b"",
        *,
        flags: int | None = None,
        attributes: Attributes | None = None,
    ) -> Iterator[None]:
        """Tell of what is done in the block, whether it works or not."""
        done = Operation(
            operation,
            shown(path),
            shown(target) if target else "",
            flags="" if flags is None else shown_flags(flags),
            attributes={} if attributes is None else shown_attributes(attributes),
        )
        try:
            yield
        except OSError as problem:
            done = replace(done, error=problem.strerror or "failed")
            raise
        except Refusal as refusal:
            done = replace(done, error=refusal.text or refusal.status.name)
            raise
        finally:
            self._tell(done)

    # Files.

    def _open(self, request: int, reader: Reader) -> bytes:
        path, wanted = wire.read_path(reader), reader.uint32()
        attributes = wire.read_attributes(reader)
        # Never blocks on a FIFO, never makes a terminal ours.
        flags = os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY
        flags |= _ACCESS.get(Flag(wanted & 3), os.O_RDONLY)
        for asked, flag in _OPEN_FLAGS.items():
            flags |= flag if wanted & asked else 0
        mode = 0o666 if attributes.mode is None else attributes.mode & 0o777
        with self.audited("open", path, flags=wanted):
            self.handles.check_room()
            fd = os.open(path, flags, mode)
            if stat.S_ISDIR(os.fstat(fd).st_mode):
                os.close(fd)
                raise IsADirectoryError(errno.EISDIR, "is a directory")
        return wire.handle_packet(request, self.handles.keep(File(path, fd, bool(wanted & Flag.APPEND))))

    def _close(self, request: int, reader: Reader) -> bytes:
        self.handles.forget(reader.string())
        return wire.status_packet(request, Status.OK)

    def _read(self, request: int, reader: Reader) -> bytes:
        file, offset = self.handles.file(reader), wire.read_offset(reader)
        data = os.pread(file.fd, min(reader.uint32(), MAX_DATA), offset)
        if not data:
            raise Refusal(Status.EOF)
        file.read += len(data)
        return wire.data_packet(request, data)

    def _write(self, request: int, reader: Reader) -> bytes:
        file, offset, data = self.handles.file(reader), wire.read_offset(reader), reader.string()
        view = memoryview(data)
        while view:
            written = os.write(file.fd, view) if file.append else os.pwrite(file.fd, view, offset)
            file.written += written
            offset += written
            view = view[written:]
        return wire.status_packet(request, Status.OK)

    def _setstat(self, request: int, reader: Reader) -> bytes:
        path, attributes = wire.read_path(reader), wire.read_attributes(reader)
        with self.audited("setstat", path, attributes=attributes):
            filesystem.set_attributes(path, attributes)
        return wire.status_packet(request, Status.OK)

    def _fsetstat(self, request: int, reader: Reader) -> bytes:
        file, attributes = self.handles.file(reader), wire.read_attributes(reader)
        with self.audited("setstat", file.path, attributes=attributes):
            filesystem.set_attributes(file.fd, attributes)
        return wire.status_packet(request, Status.OK)

    def _remove(self, request: int, reader: Reader) -> bytes:
        path = wire.read_path(reader)
        with self.audited("remove", path):
            os.unlink(path)
        return wire.status_packet(request, Status.OK)

    def _rename(self, request: int, reader: Reader) -> bytes:
        old, new = wire.read_path(reader), wire.read_path(reader)
        with self.audited("rename", old, new):
            filesystem.rename_without_replacing(old, new)
        return wire.status_packet(request, Status.OK)

    def _symlink(self, request: int, reader: Reader) -> bytes:
        # In the order of OpenSSH, which all clients follow: first what it points to.
        target, link = wire.read_path(reader), wire.read_path(reader)
        with self.audited("symlink", link, target):
            os.symlink(target, link)
        return wire.status_packet(request, Status.OK)

    # Directories.

    def _opendir(self, request: int, reader: Reader) -> bytes:
        path = wire.read_path(reader)
        with self.audited("opendir", path):
            self.handles.check_room()
            names = iter([b".", b"..", *os.listdir(path)])
        return wire.handle_packet(request, self.handles.keep(Directory(path, names)))

    def _readdir(self, request: int, reader: Reader) -> bytes:
        directory = self.handles.directory(reader)
        if directory.first:
            directory.first = False
            self._tell(Operation("readdir", shown(directory.path)))
        entries: list[tuple[bytes, bytes, bytes]] = []
        for name in directory.names:
            try:
                found = os.lstat(os.path.join(directory.path, name))
            except OSError:
                continue  # removed meanwhile
            user = filesystem.user_name(found.st_uid) or str(found.st_uid)
            group = filesystem.group_name(found.st_gid) or str(found.st_gid)
            line = wire.long_name(name, found, user, group)
            entries.append((name, line, wire.attributes_of(found)))
            if len(entries) == NAMES_PER_REPLY:
                break
        if not entries:
            raise Refusal(Status.EOF)
        return wire.name_packet(request, entries)

    def _mkdir(self, request: int, reader: Reader) -> bytes:
        path, attributes = wire.read_path(reader), wire.read_attributes(reader)
        with self.audited("mkdir", path):
            os.mkdir(path, 0o777 if attributes.mode is None else attributes.mode & 0o777)
        return wire.status_packet(request, Status.OK)

    def _rmdir(self, request: int, reader: Reader) -> bytes:
        path = wire.read_path(reader)
        with self.audited("rmdir", path):
            os.rmdir(path)
        return wire.status_packet(request, Status.OK)
