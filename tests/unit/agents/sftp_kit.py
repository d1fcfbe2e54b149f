"""An SFTP server without a channel, and what a client would make of its packets."""

from __future__ import annotations

import os
from pathlib import Path

from pkgs.agents.ssh.session.sftp.audited import Operation
from pkgs.agents.ssh.session.sftp.server import FileServer
from pkgs.agents.ssh.session.sftp.wire import Op, Status
from pkgs.common.ssh import wire
from pkgs.common.ssh.wire import Reader


class Client:
    """Sends requests and keeps what the service would be told."""

    def __init__(self) -> None:
        self.told: list[Operation] = []
        self.files: list[tuple[str, int, int]] = []
        self.wanted = True
        self.server = FileServer(self.told.append, lambda *args: self.files.append(args), lambda: self.wanted)
        version = Reader(self.server.answer(Op.INIT, wire.uint32(3))[5:])
        assert version.uint32() == 3
        self.offered: dict[str, str] = {}
        while not version.at_end():
            extension = version.text()
            self.offered[extension] = version.text()

    def ask(self, op: int, *parts: bytes) -> tuple[int, Reader]:
        """The reply's type, and what stands behind the request's number."""
        reply = self.server.answer(op, wire.uint32(7) + b"".join(parts))
        assert int.from_bytes(reply[:4], "big") == len(reply) - 4
        reader = Reader(reply[5:])
        assert reader.uint32() == 7
        return reply[4], reader

    def status(self, op: int, *parts: bytes) -> Status:
        kind, reader = self.ask(op, *parts)
        assert kind == 101, kind
        return Status(reader.uint32())

    def extended(self, name: str, *parts: bytes) -> Status:
        return self.status(Op.EXTENDED, wire.string(name), *parts)

    def open(self, path: Path | bytes, flags: int) -> bytes:
        """The handle, in the form that requests carry."""
        kind, reader = self.ask(Op.OPEN, name(path), wire.uint32(flags), wire.uint32(0))
        assert kind == 102, kind
        return wire.string(reader.string())

    def names(self, op: int, *parts: bytes) -> list[bytes]:
        kind, reader = self.ask(op, *parts)
        assert kind == 104, kind
        found = []
        for _ in range(reader.uint32()):
            found.append(reader.string())
            reader.string()
            flags = reader.uint32()
            reader.take({0: 0, 15: 28}[flags])
        return found


def name(path: Path | bytes) -> bytes:
    return wire.string(os.fsencode(path))


def number(value: int) -> bytes:
    return value.to_bytes(8, "big")
