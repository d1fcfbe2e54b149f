"""An SFTP server that answers a request for a folder with names that lead out of it; run as a program.

hostile_sftp.py FOLDER: names are also absolute, in that folder."""

from __future__ import annotations

import os
import struct
import sys

INIT, OPEN, CLOSE, READ, LSTAT, FSTAT, OPENDIR, READDIR, REALPATH, STAT = 1, 3, 4, 5, 7, 8, 11, 12, 16, 17
VERSION, STATUS, HANDLE, DATA, NAME, ATTRS = 2, 101, 102, 103, 104, 105
OK, EOF = 0, 1
CONTENT = b"hostile"


def number(value: int) -> bytes:
    return struct.pack(">I", value)


def text(value: bytes) -> bytes:
    return number(len(value)) + value


def attributes(*, folder: bool) -> bytes:
    """Size and permissions: a folder, or a program that would run as its owner."""
    return struct.pack(">IQI", 1 | 4, len(CONTENT), 0o040755 if folder else 0o104777)


def send(kind: int, body: bytes) -> None:
    os.write(1, struct.pack(">IB", len(body) + 1, kind) + body)


def read(count: int) -> bytes:
    data = b""
    while len(data) < count:
        more = os.read(0, count - len(data))
        if not more:
            sys.exit()
        data += more
    return data


def main() -> None:
    outside = os.fsencode(sys.argv[1])
    names = [b"../escaped", outside + b"/escaped", b"..", b"a/../../escaped", b"good"]
    listed = False
    unread = False
    while True:
        size, kind = struct.unpack(">IB", read(5))
        body = read(size - 1)
        request, rest = body[:4], body[8:]
        status = request + number(OK) + text(b"") * 2
        if kind == INIT:
            send(VERSION, number(3))
        elif kind in (LSTAT, STAT):
            send(ATTRS, request + attributes(folder=not rest.endswith((b"good", b"escaped"))))
        elif kind == FSTAT:
            send(ATTRS, request + attributes(folder=False))
        elif kind == REALPATH:
            send(NAME, request + number(1) + text(rest) * 2 + number(0))
        elif kind in (OPEN, OPENDIR):
            unread = True
            send(HANDLE, request + text(b"h"))
        elif kind == READDIR and not listed:
            listed = True
            entries = b"".join(text(name) * 2 + attributes(folder=False) for name in names)
            send(NAME, request + number(len(names)) + entries)
        elif kind == READ and unread:
            unread = False
            send(DATA, request + text(CONTENT))
        elif kind in (READ, READDIR):
            send(STATUS, request + number(EOF) + text(b"") * 2)
        else:
            send(STATUS, status)


if __name__ == "__main__":
    main()
