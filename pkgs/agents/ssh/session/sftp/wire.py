"""SFTP version 3 on the wire: packets, attributes, names. Sans-IO; raises WireError and nothing else."""

from __future__ import annotations

import os
import stat
import time
from dataclasses import dataclass
from enum import IntEnum, IntFlag

from pkgs.agents.ssh.session.sftp.limits import MAX_EXTENDED_ATTRIBUTES, MAX_PACKET, MAX_PATH
from pkgs.common.ssh import wire
from pkgs.common.ssh.wire import Reader, WireError


class Op(IntEnum):
    """Packet types a client sends."""

    INIT = 1
    OPEN = 3
    CLOSE = 4
    READ = 5
    WRITE = 6
    LSTAT = 7
    FSTAT = 8
    SETSTAT = 9
    FSETSTAT = 10
    OPENDIR = 11
    READDIR = 12
    REMOVE = 13
    MKDIR = 14
    RMDIR = 15
    REALPATH = 16
    STAT = 17
    RENAME = 18
    READLINK = 19
    SYMLINK = 20
    EXTENDED = 200


class Status(IntEnum):
    OK = 0
    EOF = 1
    NO_SUCH_FILE = 2
    PERMISSION_DENIED = 3
    FAILURE = 4
    BAD_MESSAGE = 5
    UNSUPPORTED = 8


class Flag(IntFlag):
    """What a file is opened for."""

    READ = 1
    WRITE = 2
    APPEND = 4
    CREATE = 8
    TRUNCATE = 16
    EXCLUSIVE = 32


class Refusal(Exception):
    """A status to answer with."""

    def __init__(self, status: Status, text: str = "") -> None:
        super().__init__(text)
        self.status = status
        self.text = text


_SIZE, _OWNER, _MODE, _TIMES, _EXTENDED = 1, 2, 4, 8, 0x80000000
_NAMES = {
    Status.OK: "Success",
    Status.EOF: "End of file",
    Status.NO_SUCH_FILE: "No such file or directory",
    Status.PERMISSION_DENIED: "Permission denied",
    Status.FAILURE: "Failure",
    Status.BAD_MESSAGE: "Bad message",
    Status.UNSUPPORTED: "Operation unsupported",
}


@dataclass(frozen=True, slots=True)
class Attributes:
    """What a client wants set; None leaves it."""

    size: int | None = None
    owner: tuple[int, int] | None = None
    mode: int | None = None
    times: tuple[int, int] | None = None


def read_attributes(reader: Reader) -> Attributes:
    flags = reader.uint32()
    size = _uint64(reader) if flags & _SIZE else None
    owner = (reader.uint32(), reader.uint32()) if flags & _OWNER else None
    mode = reader.uint32() & 0o7777 if flags & _MODE else None
    times = (reader.uint32(), reader.uint32()) if flags & _TIMES else None
    if flags & _EXTENDED:
        for _ in range(min(reader.uint32(), MAX_EXTENDED_ATTRIBUTES)):
            reader.string()
            reader.string()
    return Attributes(size, owner, mode, times)


def attributes_of(found: os.stat_result) -> bytes:
    return b"".join(
        (
            wire.uint32(_SIZE | _OWNER | _MODE | _TIMES),
            found.st_size.to_bytes(8, "big"),
            wire.uint32(found.st_uid & 0xFFFFFFFF),
            wire.uint32(found.st_gid & 0xFFFFFFFF),
            wire.uint32(found.st_mode),
            wire.uint32(max(0, int(found.st_atime)) & 0xFFFFFFFF),
            wire.uint32(max(0, int(found.st_mtime)) & 0xFFFFFFFF),
        )
    )


def read_offset(reader: Reader) -> int:
    """A place in a file, or a length, that a kernel can count to."""
    offset = _uint64(reader)
    if offset >= 1 << 63:
        raise WireError("offset is out of bounds")
    return offset


def _uint64(reader: Reader) -> int:
    return int.from_bytes(reader.take(8), "big")


def read_path(reader: Reader) -> bytes:
    path = reader.string()
    if b"\0" in path or len(path) > MAX_PATH:
        raise WireError("path is out of bounds")
    return path or b"."


def packet(kind: int, body: bytes) -> bytes:
    return (len(body) + 1).to_bytes(4, "big") + bytes((kind,)) + body


def status_packet(request: int, status: Status, text: str = "") -> bytes:
    body = (
        wire.uint32(request) + wire.uint32(status) + wire.string(text or _NAMES[status]) + wire.string("en")
    )
    return packet(101, body)


def handle_packet(request: int, handle: bytes) -> bytes:
    return packet(102, wire.uint32(request) + wire.string(handle))


def data_packet(request: int, data: bytes) -> bytes:
    size = len(data)
    head = (size + 9).to_bytes(4, "big") + b"\x67" + wire.uint32(request) + wire.uint32(size)
    return head + data


def name_packet(request: int, names: list[tuple[bytes, bytes, bytes]]) -> bytes:
    """Names with their long form and their attributes."""
    body = b"".join(wire.string(name) + wire.string(long) + attributes for name, long, attributes in names)
    return packet(104, wire.uint32(request) + wire.uint32(len(names)) + body)


def path_packet(request: int, path: bytes) -> bytes:
    """One name alone: the answer to what a path means."""
    return name_packet(request, [(path, path, wire.uint32(0))])


def attributes_packet(request: int, found: os.stat_result) -> bytes:
    return packet(105, wire.uint32(request) + attributes_of(found))


def reply_packet(request: int, body: bytes) -> bytes:
    return packet(201, wire.uint32(request) + body)


def version_packet(extensions: list[tuple[str, str]]) -> bytes:
    return packet(
        2, wire.uint32(3) + b"".join(wire.string(name) + wire.string(data) for name, data in extensions)
    )


def long_name(name: bytes, found: os.stat_result, user: str, group: str) -> bytes:
    """The line that `ls -l` prints, which some clients show as it is."""
    recent = abs(time.time() - found.st_mtime) < 180 * 86400
    when = time.strftime("%b %e %H:%M" if recent else "%b %e  %Y", time.localtime(found.st_mtime))
    mode = stat.filemode(found.st_mode)
    return f"{mode} {found.st_nlink:4d} {user:<8} {group:<8} {found.st_size:8d} {when} ".encode() + name


class Packets:
    """Splits the byte stream into packets: `(type, body)`."""

    def __init__(self) -> None:
        self._buffer = bytearray()
        self._wanted = 4

    def feed(self, data: bytes) -> None:
        self._buffer += data

    def take(self) -> tuple[int, bytes] | None:
        """The next whole packet, if there is one."""
        if len(self._buffer) < self._wanted:
            return None
        length = int.from_bytes(self._buffer[:4], "big")
        if not 1 <= length <= MAX_PACKET:
            raise WireError("SFTP packet length is out of bounds")
        if len(self._buffer) < 4 + length:
            self._wanted = 4 + length
            return None
        kind, body = self._buffer[4], bytes(memoryview(self._buffer)[5 : 4 + length])
        del self._buffer[: 4 + length]
        self._wanted = 4
        return kind, body
