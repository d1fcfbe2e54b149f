# Clients name files in bytes, which pathlib does not take.
# ruff: noqa: PTH104
"""The extensions of OpenSSH's server that clients use; see its PROTOCOL file, section 4."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable
from typing import TYPE_CHECKING

from pkgs.agents.ssh.session.sftp import filesystem, wire
from pkgs.agents.ssh.session.sftp.limits import MAX_DATA, MAX_HANDLES, MAX_IDS, MAX_PACKET
from pkgs.agents.ssh.session.sftp.wire import Refusal, Status
from pkgs.common.ssh.wire import Reader, string

if TYPE_CHECKING:
    from pkgs.agents.ssh.session.sftp.server import FileServer


def answer(server: FileServer, request: int, reader: Reader) -> bytes:
    """The reply to one extended request. Raises Refusal, OSError and WireError."""
    found = _EXTENSIONS.get(reader.text())
    if found is None:
        raise Refusal(Status.UNSUPPORTED)
    return found[1](server, request, reader)


def _posix_rename(server: FileServer, request: int, reader: Reader) -> bytes:
    old, new = wire.read_path(reader), wire.read_path(reader)
    with server.audited("rename", old, new):
        os.rename(old, new)
    return wire.status_packet(request, Status.OK)


def _hardlink(server: FileServer, request: int, reader: Reader) -> bytes:
    old, new = wire.read_path(reader), wire.read_path(reader)
    with server.audited("link", new, old):
        os.link(old, new, follow_symlinks=False)
    return wire.status_packet(request, Status.OK)


def _fsync(server: FileServer, request: int, reader: Reader) -> bytes:
    os.fsync(server.handles.file(reader).fd)
    return wire.status_packet(request, Status.OK)


def _lsetstat(server: FileServer, request: int, reader: Reader) -> bytes:
    path, attributes = wire.read_path(reader), wire.read_attributes(reader)
    with server.audited("setstat", path, attributes=attributes):
        filesystem.set_link_attributes(path, attributes)
    return wire.status_packet(request, Status.OK)


def _statvfs(_: FileServer, request: int, reader: Reader) -> bytes:
    return wire.reply_packet(request, filesystem.volume(os.statvfs(wire.read_path(reader))))


def _fstatvfs(server: FileServer, request: int, reader: Reader) -> bytes:
    return wire.reply_packet(request, filesystem.volume(os.statvfs(server.handles.file(reader).fd)))


def _limits(_: FileServer, request: int, reader: Reader) -> bytes:
    sizes = (MAX_PACKET, MAX_DATA, MAX_DATA, MAX_HANDLES)
    return wire.reply_packet(request, b"".join(size.to_bytes(8, "big") for size in sizes))


def _expand_path(_: FileServer, request: int, reader: Reader) -> bytes:
    return wire.path_packet(request, filesystem.expanded(wire.read_path(reader)))


def _home_directory(_: FileServer, request: int, reader: Reader) -> bytes:
    return wire.path_packet(request, filesystem.home_of(reader.string()))


def _names_by_id(_: FileServer, request: int, reader: Reader) -> bytes:
    users = _names(reader.string(), filesystem.user_name)
    return wire.reply_packet(request, users + _names(reader.string(), filesystem.group_name))


def _names(numbers: bytes, named: Callable[[int], str]) -> bytes:
    """For a string of numbers, a string of the names; empty for those that have none."""
    if len(numbers) > 4 * MAX_IDS:
        raise Refusal(Status.FAILURE, f"more than {MAX_IDS} ids in one request")
    reader, out = Reader(numbers), b""
    while not reader.at_end():
        out += string(named(reader.uint32()))
    return string(out)


def _copy_data(server: FileServer, request: int, reader: Reader) -> bytes:
    """Both files are audited as opened, and the bytes in their summaries."""
    source, offset, length = server.handles.file(reader), wire.read_offset(reader), wire.read_offset(reader)
    target, at = server.handles.file(reader), wire.read_offset(reader)
    found = [os.fstat(file.fd) for file in (source, target)]
    if not all(stat.S_ISREG(each.st_mode) for each in found) or os.path.samestat(*found):
        raise Refusal(Status.FAILURE, "copies are made between two plain files")
    done = filesystem.copy(source.fd, offset, length, target.fd, at, server.is_wanted)
    source.read += done
    target.written += done
    if length and done < length:
        raise Refusal(Status.EOF)
    return wire.status_packet(request, Status.OK)


_Answer = Callable[["FileServer", int, Reader], bytes]
_EXTENSIONS: dict[str, tuple[str, _Answer]] = {
    "posix-rename@openssh.com": ("1", _posix_rename),
    "statvfs@openssh.com": ("2", _statvfs),
    "fstatvfs@openssh.com": ("2", _fstatvfs),
    "hardlink@openssh.com": ("1", _hardlink),
    "fsync@openssh.com": ("1", _fsync),
    "lsetstat@openssh.com": ("1", _lsetstat),
    "limits@openssh.com": ("1", _limits),
    "expand-path@openssh.com": ("1", _expand_path),
    "copy-data": ("1", _copy_data),
    "home-directory": ("1", _home_directory),
    "users-groups-by-id@openssh.com": ("1", _names_by_id),
}
OFFERED = [(name, version) for name, (version, _) in _EXTENSIONS.items()]
