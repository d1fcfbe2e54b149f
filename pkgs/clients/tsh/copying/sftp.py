"""As much of SFTP version 3 as moves one file: over two pipes, many requests at once, in order."""

from __future__ import annotations

import os
import stat
from collections import deque
from collections.abc import Callable
from typing import IO

from pkgs.clients.tsh.copying.limits import CHUNK, MAX_REPLY, OUTSTANDING
from pkgs.common.errors import AccessError, DeniedError, NotFoundError, ProtocolError, UnavailableError
from pkgs.common.output.sanitize import inert
from pkgs.common.ssh.wire import Reader, string, uint32

INIT, VERSION, OPEN, CLOSE, READ, WRITE, FSTAT, FSETSTAT, STAT = 1, 2, 3, 4, 5, 6, 8, 10, 17
STATUS, HANDLE, DATA, ATTRS = 101, 102, 103, 105
FOR_READING, FOR_WRITING, CREATE = 1, 2, 8
_SIZE, _OWNER, _MODE, _TIMES = 1, 2, 4, 8
_OK, _EOF, _NO_SUCH_FILE, _DENIED = 0, 1, 2, 3

Told = Callable[[int], None]
"""How far a copy is, in bytes of the whole file."""


class Found:
    """What a server says about a file."""

    def __init__(self, reader: Reader) -> None:
        flags = reader.uint32()
        self.size = int.from_bytes(reader.take(8), "big") if flags & _SIZE else 0
        if flags & _OWNER:
            reader.take(8)
        self.mode = reader.uint32() if flags & _MODE else 0
        self.times = (reader.uint32(), reader.uint32()) if flags & _TIMES else None

    @property
    def is_folder(self) -> bool:
        return stat.S_ISDIR(self.mode)

    @property
    def is_file(self) -> bool:
        return stat.S_ISREG(self.mode)


class Sftp:
    """Raises UnavailableError when the server is gone, ProtocolError when it makes no sense."""

    def __init__(self, source: IO[bytes], sink: IO[bytes]) -> None:
        self._source = source
        self._sink = sink
        self._next = 0
        self._send(INIT, uint32(3))
        kind, reader = self._receive()
        if kind != VERSION or reader.uint32() < 3:
            raise ProtocolError("the server does not speak SFTP")

    def find(self, path: bytes) -> Found | None:
        """None: there is no such file."""
        try:
            return Found(self._ask(STAT, string(path), wanted=ATTRS))
        except NotFoundError:
            return None

    def open(self, path: bytes, flags: int) -> bytes:
        return self._ask(OPEN, string(path) + uint32(flags) + uint32(0), wanted=HANDLE).string()

    def found(self, handle: bytes) -> Found:
        return Found(self._ask(FSTAT, string(handle), wanted=ATTRS))

    def stamp(self, handle: bytes, mode: int, times: tuple[int, int]) -> None:
        attributes = uint32(_MODE | _TIMES) + uint32(mode) + uint32(times[0]) + uint32(times[1])
        self._ask(FSETSTAT, string(handle) + attributes, wanted=STATUS)

    def close(self, handle: bytes) -> None:
        self._ask(CLOSE, string(handle), wanted=STATUS)

    def read_into(self, handle: bytes, fd: int, offset: int, end: int, told: Told) -> None:
        """The file's bytes from `offset` to `end` to the same place of `fd`, in order."""
        asked: deque[tuple[int, int, int]] = deque()
        at = offset
        while offset < end:
            while at < end and len(asked) < OUTSTANDING:
                size = min(CHUNK, end - at)
                asked.append((self._read(handle, at, size), at, size))
                at += size
            request, place, size = asked.popleft()
            data = self._data(request)
            if len(data) > size:
                raise ProtocolError("the server sent more than was asked for")
            _write_all(fd, data, place)
            offset = place + len(data)
            if len(data) < size:
                # The rest comes before anything behind it; what is under way is read over.
                for other, _, _ in asked:
                    self._data(other)
                asked.clear()
                at = offset
            told(offset)

    def write_from(self, handle: bytes, fd: int, offset: int, end: int, told: Told) -> None:
        """The bytes of `fd` from `offset` to `end` to the same place of the file."""
        asked: deque[tuple[int, int]] = deque()
        while offset < end or asked:
            while offset < end and len(asked) < OUTSTANDING:
                data = os.pread(fd, min(CHUNK, end - offset), offset)
                if not data:
                    raise UnavailableError("the file became shorter while it was copied")
                body = string(handle) + offset.to_bytes(8, "big") + string(data)
                offset += len(data)
                asked.append((self._request(WRITE, body), offset))
            request, done = asked.popleft()
            self._answer(request, STATUS)
            told(done)

    def _read(self, handle: bytes, at: int, size: int) -> int:
        return self._request(READ, string(handle) + at.to_bytes(8, "big") + uint32(size))

    def _data(self, request: int) -> bytes:
        try:
            data = self._answer(request, DATA).string()
        except EOFError:
            data = b""
        if not data:
            raise UnavailableError("the file became shorter while it was copied")
        return data

    # Packets.

    def _ask(self, kind: int, body: bytes, *, wanted: int) -> Reader:
        return self._answer(self._request(kind, body), wanted)

    def _request(self, kind: int, body: bytes) -> int:
        self._next += 1
        self._send(kind, uint32(self._next) + body)
        return self._next

    def _answer(self, request: int, wanted: int) -> Reader:
        """The servers that matter answer in order; one that does not is not used. Raises EOFError."""
        kind, reader = self._receive()
        if reader.uint32() != request:
            raise ProtocolError("the server does not answer in order", hint="copy without --continue")
        if kind == STATUS:
            _check(reader.uint32(), reader)
        if kind != wanted:
            raise ProtocolError("the server answered something else")
        return reader

    def _send(self, kind: int, body: bytes) -> None:
        try:
            self._sink.write((len(body) + 1).to_bytes(4, "big") + bytes((kind,)) + body)
            self._sink.flush()
        except OSError as problem:
            raise UnavailableError("the connection was lost") from problem

    def _receive(self) -> tuple[int, Reader]:
        size = int.from_bytes(self._exactly(4), "big")
        if not 1 <= size <= MAX_REPLY:
            raise ProtocolError("the server's answer is too long")
        data = self._exactly(size)
        return data[0], Reader(data[1:])

    def _exactly(self, count: int) -> bytes:
        data = self._source.read(count)
        if len(data) < count:
            raise UnavailableError("the connection was lost", hint="the same command goes on from here")
        return data


def _check(status: int, reader: Reader) -> None:
    if status == _OK:
        return
    if status == _EOF:
        raise EOFError
    text = inert(reader.string()[:500].decode(errors="replace")) if not reader.at_end() else "failed"
    kinds: dict[int, type[AccessError]] = {_NO_SUCH_FILE: NotFoundError, _DENIED: DeniedError}
    raise kinds.get(status, UnavailableError)(text)


def _write_all(fd: int, data: bytes, at: int) -> None:
    view = memoryview(data)
    while view:
        written = os.pwrite(fd, view, at)
        at += written
        view = view[written:]
