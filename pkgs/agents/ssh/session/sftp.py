# Clients name files in bytes, which pathlib does not take.
# ruff: noqa: PTH101, PTH102, PTH104, PTH106, PTH108, PTH109, PTH111, PTH115, PTH116, PTH118, PTH208, PTH211
"""SFTP operations on the file system, as the user that this process has become.

Paths mean what they mean to that user in a shell, starting at the home: the kernel's permissions are the
border (attack A56), nothing here runs with more. Each operation is told to `audit`; bytes are not.
"""

from __future__ import annotations

import contextlib
import errno
import grp
import os
import pwd
import stat
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import lru_cache

from pkgs.agents.ssh.session import sftpwire
from pkgs.agents.ssh.session.sftpwire import Attributes, Op, Status
from pkgs.common.ssh import wire
from pkgs.common.ssh.wire import Reader, WireError

MAX_HANDLES = 256
_NAMES_PER_REPLY = 128
_READ, _WRITE, _APPEND, _CREAT, _TRUNC, _EXCL = 1, 2, 4, 8, 16, 32
_EXTENSIONS = [
    ("posix-rename@openssh.com", "1"),
    ("statvfs@openssh.com", "2"),
    ("fstatvfs@openssh.com", "2"),
    ("hardlink@openssh.com", "1"),
    ("fsync@openssh.com", "1"),
    ("lsetstat@openssh.com", "1"),
    ("limits@openssh.com", "1"),
    ("expand-path@openssh.com", "1"),
    ("users-groups-by-id@openssh.com", "1"),
]

_NO_LINKS = (errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS, errno.EXDEV, errno.EMLINK)
"""Why a file system, or a kernel that protects other people's files from it, makes no hard link."""

Audit = Callable[[str, str, str, str], None]
"""Operation, path, second path, error (empty: it worked)."""


@dataclass(slots=True)
class _File:
    path: bytes
    fd: int
    append: bool
    read: int = 0
    written: int = 0


@dataclass(slots=True)
class _Directory:
    path: bytes
    names: Iterator[bytes]
    first: bool = True


class _Refusal(Exception):
    """A status to answer with."""

    def __init__(self, status: Status, text: str = "") -> None:
        super().__init__(text)
        self.status = status
        self.text = text


class FileServer:
    """Answers requests one by one. Not for use by several threads at once."""

    def __init__(self, audit: Audit, summary: Callable[[str, int, int], None]) -> None:
        self._audit = audit
        self._summary = summary
        self._handles: dict[bytes, _File | _Directory] = {}
        self._next = 0
        self._started = False
        self._operations: dict[int, Callable[[int, Reader], bytes]] = {
            Op.OPEN: self._open,
            Op.CLOSE: self._close,
            Op.READ: self._read,
            Op.WRITE: self._write,
            Op.LSTAT: lambda n, r: sftpwire.attributes_packet(n, os.lstat(sftpwire.read_path(r))),
            Op.STAT: lambda n, r: sftpwire.attributes_packet(n, os.stat(sftpwire.read_path(r))),
            Op.FSTAT: lambda n, r: sftpwire.attributes_packet(n, os.fstat(self._file(r).fd)),
            Op.SETSTAT: self._setstat,
            Op.FSETSTAT: self._fsetstat,
            Op.OPENDIR: self._opendir,
            Op.READDIR: self._readdir,
            Op.REMOVE: self._remove,
            Op.MKDIR: self._mkdir,
            Op.RMDIR: self._rmdir,
            Op.REALPATH: self._realpath,
            Op.RENAME: self._rename,
            Op.READLINK: self._readlink,
            Op.SYMLINK: self._symlink,
            Op.EXTENDED: self._extended,
        }

    def answer(self, kind: int, body: bytes) -> bytes:
        """The reply to one packet. Raises WireError for what is no request at all."""
        reader = Reader(body)
        if not self._started:
            if kind != Op.INIT:
                raise WireError("SFTP must begin with its version")
            self._started = True
            return sftpwire.version_packet(_EXTENSIONS)
        request = reader.uint32()
        operation = self._operations.get(kind)
        if operation is None:
            return sftpwire.status_packet(request, Status.UNSUPPORTED)
        try:
            return operation(request, reader)
        except _Refusal as refusal:
            return sftpwire.status_packet(request, refusal.status, refusal.text)
        except OSError as problem:
            return sftpwire.status_packet(request, _status(problem), problem.strerror or "")
        except WireError as problem:
            return sftpwire.status_packet(request, Status.BAD_MESSAGE, problem.message)

    def close(self) -> None:
        """Close what the client left open."""
        for handle in list(self._handles):
            with contextlib.suppress(OSError):
                self._forget(handle)

    # Files.

    def _open(self, request: int, reader: Reader) -> bytes:
        path, wanted = sftpwire.read_path(reader), reader.uint32()
        attributes = sftpwire.read_attributes(reader)
        # Never blocks on a FIFO, never makes a terminal ours.
        flags = os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY
        flags |= {_READ: os.O_RDONLY, _WRITE: os.O_WRONLY, _READ | _WRITE: os.O_RDWR}.get(wanted & 3, 0)
        for asked, flag in (
            (_APPEND, os.O_APPEND),
            (_CREAT, os.O_CREAT),
            (_TRUNC, os.O_TRUNC),
            (_EXCL, os.O_EXCL),
        ):
            flags |= flag if wanted & asked else 0
        mode = 0o666 if attributes.mode is None else attributes.mode & 0o777
        with self._audited("open", path):
            self._check_room()
            fd = os.open(path, flags, mode)
            if stat.S_ISDIR(os.fstat(fd).st_mode):
                os.close(fd)
                raise IsADirectoryError(errno.EISDIR, "is a directory")
        return sftpwire.handle_packet(request, self._keep(_File(path, fd, bool(wanted & _APPEND))))

    def _close(self, request: int, reader: Reader) -> bytes:
        handle = reader.string()
        if handle not in self._handles:
            raise _Refusal(Status.FAILURE, "no such handle")
        self._forget(handle)
        return sftpwire.status_packet(request, Status.OK)

    def _read(self, request: int, reader: Reader) -> bytes:
        file, offset = self._file(reader), sftpwire.read_offset(reader)
        data = os.pread(file.fd, min(reader.uint32(), sftpwire.MAX_DATA), offset)
        if not data:
            raise _Refusal(Status.EOF)
        file.read += len(data)
        return sftpwire.data_packet(request, data)

    def _write(self, request: int, reader: Reader) -> bytes:
        file, offset, data = self._file(reader), sftpwire.read_offset(reader), reader.string()
        file.written += len(data)
        view = memoryview(data)
        while view:
            written = os.write(file.fd, view) if file.append else os.pwrite(file.fd, view, offset)
            offset += written
            view = view[written:]
        return sftpwire.status_packet(request, Status.OK)

    def _setstat(self, request: int, reader: Reader) -> bytes:
        path, attributes = sftpwire.read_path(reader), sftpwire.read_attributes(reader)
        with self._audited("setstat", path):
            _apply(path, attributes, follow=True)
        return sftpwire.status_packet(request, Status.OK)

    def _fsetstat(self, request: int, reader: Reader) -> bytes:
        file, attributes = self._file(reader), sftpwire.read_attributes(reader)
        with self._audited("setstat", file.path):
            _apply(file.fd, attributes, follow=True)
        return sftpwire.status_packet(request, Status.OK)

    def _remove(self, request: int, reader: Reader) -> bytes:
        path = sftpwire.read_path(reader)
        with self._audited("remove", path):
            os.unlink(path)
        return sftpwire.status_packet(request, Status.OK)

    def _rename(self, request: int, reader: Reader) -> bytes:
        old, new = sftpwire.read_path(reader), sftpwire.read_path(reader)
        with self._audited("rename", old, new):
            if stat.S_ISREG(os.lstat(old).st_mode):
                # Version 3 must not replace; a link fails when the name is taken.
                try:
                    os.link(old, new, follow_symlinks=False)
                except OSError as problem:
                    if problem.errno not in _NO_LINKS:
                        raise
                    _move(old, new)
                else:
                    os.unlink(old)
            else:
                _move(old, new)
        return sftpwire.status_packet(request, Status.OK)

    def _readlink(self, request: int, reader: Reader) -> bytes:
        target = os.readlink(sftpwire.read_path(reader))
        return sftpwire.name_packet(request, [(target, target, wire.uint32(0))])

    def _symlink(self, request: int, reader: Reader) -> bytes:
        # In the order of OpenSSH, which all clients follow: first what it points to.
        target, link = sftpwire.read_path(reader), sftpwire.read_path(reader)
        with self._audited("symlink", link, target):
            os.symlink(target, link)
        return sftpwire.status_packet(request, Status.OK)

    # Directories.

    def _opendir(self, request: int, reader: Reader) -> bytes:
        path = sftpwire.read_path(reader)
        with self._audited("opendir", path):
            self._check_room()
            names = iter([b".", b"..", *os.listdir(path)])
        return sftpwire.handle_packet(request, self._keep(_Directory(path, names)))

    def _readdir(self, request: int, reader: Reader) -> bytes:
        directory = self._handles.get(reader.string())
        if not isinstance(directory, _Directory):
            raise _Refusal(Status.FAILURE, "no such handle")
        if directory.first:
            directory.first = False
            self._audit("readdir", _shown(directory.path), "", "")
        entries: list[tuple[bytes, bytes, bytes]] = []
        for name in directory.names:
            try:
                found = os.lstat(os.path.join(directory.path, name))
            except OSError:
                continue  # removed meanwhile
            line = sftpwire.long_name(name, found, _user(found.st_uid), _group(found.st_gid))
            entries.append((name, line, sftpwire.attributes_of(found)))
            if len(entries) == _NAMES_PER_REPLY:
                break
        if not entries:
            raise _Refusal(Status.EOF)
        return sftpwire.name_packet(request, entries)

    def _mkdir(self, request: int, reader: Reader) -> bytes:
        path, attributes = sftpwire.read_path(reader), sftpwire.read_attributes(reader)
        with self._audited("mkdir", path):
            os.mkdir(path, 0o777 if attributes.mode is None else attributes.mode & 0o777)
        return sftpwire.status_packet(request, Status.OK)

    def _rmdir(self, request: int, reader: Reader) -> bytes:
        path = sftpwire.read_path(reader)
        with self._audited("rmdir", path):
            os.rmdir(path)
        return sftpwire.status_packet(request, Status.OK)

    def _realpath(self, request: int, reader: Reader) -> bytes:
        path = os.path.realpath(sftpwire.read_path(reader))
        return sftpwire.name_packet(request, [(path, path, wire.uint32(0))])

    # Extensions.

    def _extended(self, request: int, reader: Reader) -> bytes:
        match reader.text():
            case "posix-rename@openssh.com":
                old, new = sftpwire.read_path(reader), sftpwire.read_path(reader)
                with self._audited("rename", old, new):
                    os.rename(old, new)
            case "hardlink@openssh.com":
                old, new = sftpwire.read_path(reader), sftpwire.read_path(reader)
                with self._audited("link", new, old):
                    os.link(old, new, follow_symlinks=False)
            case "fsync@openssh.com":
                os.fsync(self._file(reader).fd)
            case "lsetstat@openssh.com":
                path, attributes = sftpwire.read_path(reader), sftpwire.read_attributes(reader)
                with self._audited("setstat", path):
                    _apply(path, attributes, follow=False)
            case "statvfs@openssh.com":
                return sftpwire.reply_packet(request, _statvfs(os.statvfs(sftpwire.read_path(reader))))
            case "fstatvfs@openssh.com":
                return sftpwire.reply_packet(request, _statvfs(os.statvfs(self._file(reader).fd)))
            case "limits@openssh.com":
                sizes = (sftpwire.MAX_PACKET, sftpwire.MAX_DATA, sftpwire.MAX_DATA, MAX_HANDLES)
                return sftpwire.reply_packet(request, b"".join(n.to_bytes(8, "big") for n in sizes))
            case "expand-path@openssh.com":
                path = os.path.realpath(os.path.expanduser(sftpwire.read_path(reader)))
                return sftpwire.name_packet(request, [(path, path, wire.uint32(0))])
            case "users-groups-by-id@openssh.com":
                users, groups = (_names(reader.string(), named) for named in (_user, _group))
                return sftpwire.reply_packet(request, users + groups)
            case _:
                raise _Refusal(Status.UNSUPPORTED)
        return sftpwire.status_packet(request, Status.OK)

    # Handles and audit.

    def _check_room(self) -> None:
        if len(self._handles) >= MAX_HANDLES:
            raise OSError(errno.EMFILE, "too many open files")

    def _keep(self, opened: _File | _Directory) -> bytes:
        self._next += 1
        handle = self._next.to_bytes(4, "big")
        self._handles[handle] = opened
        return handle

    def _forget(self, handle: bytes) -> None:
        opened = self._handles.pop(handle)
        if isinstance(opened, _File):
            os.close(opened.fd)
            self._summary(_shown(opened.path), opened.read, opened.written)

    def _file(self, reader: Reader) -> _File:
        opened = self._handles.get(reader.string())
        if not isinstance(opened, _File):
            raise _Refusal(Status.FAILURE, "no such handle")
        return opened

    @contextlib.contextmanager
    def _audited(self, operation: str, path: bytes, second: bytes = b"") -> Iterator[None]:
        error = ""
        try:
            yield
        except OSError as problem:
            error = problem.strerror or "failed"
            raise
        finally:
            self._audit(operation, _shown(path), _shown(second) if second else "", error)


def _move(old: bytes, new: bytes) -> None:
    """Rename where nothing can make it fail for a name that is taken in between."""
    if os.path.lexists(new):
        raise FileExistsError(errno.EEXIST, "the name is taken")
    os.rename(old, new)


def _apply(target: bytes | int, wanted: Attributes, *, follow: bool) -> None:
    if wanted.size is not None and follow:
        os.truncate(target, wanted.size)
    if wanted.mode is not None and follow:
        os.chmod(target, wanted.mode)
    # A descriptor is what it is: only names are followed or not.
    follow = follow or isinstance(target, int)
    if wanted.times is not None:
        os.utime(target, wanted.times, follow_symlinks=follow)
    if wanted.owner is not None:
        os.chown(target, *wanted.owner, follow_symlinks=follow)


def _status(problem: OSError) -> Status:
    if problem.errno in (errno.ENOENT, errno.ENOTDIR, errno.ELOOP):
        return Status.NO_SUCH_FILE
    if problem.errno in (errno.EACCES, errno.EPERM):
        return Status.PERMISSION_DENIED
    return Status.FAILURE


def _statvfs(found: os.statvfs_result) -> bytes:
    fields = (
        found.f_bsize,
        found.f_frsize,
        found.f_blocks,
        found.f_bfree,
        found.f_bavail,
        found.f_files,
        found.f_ffree,
        found.f_favail,
        found.f_fsid,
        (1 if found.f_flag & os.ST_RDONLY else 0) | (2 if found.f_flag & os.ST_NOSUID else 0),
        found.f_namemax,
    )
    return b"".join((field & 0xFFFFFFFFFFFFFFFF).to_bytes(8, "big") for field in fields)


def _shown(path: bytes) -> str:
    """For the audit: absolute, and inert whatever the bytes are."""
    absolute = os.path.normpath(os.path.join(os.getcwdb(), path))
    return absolute.decode(errors="backslashreplace")


def _names(numbers: bytes, named: Callable[[int], str]) -> bytes:
    """For a string of numbers, a string of the names; empty for those that have none."""
    reader, out = Reader(numbers), b""
    while not reader.at_end():
        number = reader.uint32()
        name = named(number)
        out += wire.string("" if name == str(number) else name)
    return wire.string(out)


@lru_cache(256)
def _user(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)


@lru_cache(256)
def _group(gid: int) -> str:
    try:
        return grp.getgrgid(gid).gr_name
    except KeyError:
        return str(gid)
