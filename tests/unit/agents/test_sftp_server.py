"""The SFTP engine: any bytes, and what the wire tests with real clients do not reach."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pkgs.agents.ssh.session.sftp.audited import Operation
from pkgs.agents.ssh.session.sftp.limits import MAX_HANDLES
from pkgs.agents.ssh.session.sftp.server import FileServer
from pkgs.agents.ssh.session.sftp.wire import Op, Packets, Status
from pkgs.common.ssh import wire
from pkgs.common.ssh.sessions.log import scp_direction
from pkgs.common.ssh.wire import WireError


class Log:
    def __init__(self) -> None:
        self.operations: list[Operation] = []
        self.files: list[tuple[str, int, int]] = []

    def server(self) -> FileServer:
        made = FileServer(self.operations.append, lambda *args: self.files.append(args))
        made.answer(Op.INIT, wire.uint32(3))
        return made


def status(reply: bytes) -> int:
    assert reply[4] == 101
    return int.from_bytes(reply[9:13], "big")


def handle(reply: bytes) -> bytes:
    assert reply[4] == 102
    return wire.Reader(reply[9:]).string()


def request(*parts: bytes) -> bytes:
    return wire.uint32(7) + b"".join(parts)


def open_file(server: FileServer, path: Path, flags: int) -> bytes:
    return server.answer(Op.OPEN, request(wire.string(bytes(path)), wire.uint32(flags), wire.uint32(0)))


@pytest.mark.fuzz
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(kind=st.integers(0, 255), body=st.binary(max_size=60))
def test_any_request_gets_an_answer(kind: int, body: bytes, tmp_path: Path) -> None:
    server = Log().server()
    old = Path.cwd()
    os.chdir(tmp_path)
    try:
        reply = server.answer(kind, wire.uint32(1) + body)
        assert int.from_bytes(reply[:4], "big") == len(reply) - 4
    finally:
        os.chdir(old)
        server.close()


@pytest.mark.fuzz
@given(st.lists(st.binary(max_size=50), max_size=10))
def test_packets_are_split_or_refused(pieces: list[bytes]) -> None:
    packets = Packets()
    try:
        for piece in pieces:
            packets.feed(piece)
            while packets.take() is not None:
                pass
    except WireError:
        return


def test_the_conversation_begins_with_the_version() -> None:
    with pytest.raises(WireError):
        FileServer(lambda *_: None, lambda *_: None).answer(Op.STAT, request(wire.string("/")))


def test_reading_writing_and_the_summary(tmp_path: Path) -> None:
    log = Log()
    server = log.server()
    path = tmp_path / "f"
    opened = handle(open_file(server, path, 2 | 8))
    write = request(wire.string(opened), (5).to_bytes(8, "big"), wire.string(b"hello"))
    assert status(server.answer(Op.WRITE, write)) == Status.OK
    assert status(server.answer(Op.CLOSE, request(wire.string(opened)))) == Status.OK
    assert path.read_bytes() == b"\0" * 5 + b"hello"
    assert log.files == [(str(path), 0, 5)]
    opened = handle(open_file(server, path, 1))
    read = request(wire.string(opened), (100).to_bytes(8, "big"), wire.uint32(10))
    assert status(server.answer(Op.READ, read)) == Status.EOF
    server.close()
    assert len(log.files) == 2


def test_a_fifo_does_not_hold_the_server_up(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    server = Log().server()
    opened = handle(open_file(server, tmp_path / "fifo", 1))
    read = request(wire.string(opened), (0).to_bytes(8, "big"), wire.uint32(10))
    assert status(server.answer(Op.READ, read)) in (Status.FAILURE, Status.EOF)
    server.close()


def test_open_files_are_bounded_and_directories_are_not_files(tmp_path: Path) -> None:
    server = Log().server()
    (tmp_path / "f").touch()
    for _ in range(MAX_HANDLES):
        handle(open_file(server, tmp_path / "f", 1))
    assert status(open_file(server, tmp_path / "f", 1)) == Status.FAILURE
    server.close()
    assert status(open_file(server, tmp_path, 1)) == Status.FAILURE


def test_plain_rename_does_not_replace(tmp_path: Path) -> None:
    server = Log().server()
    (tmp_path / "a").write_text("a")
    (tmp_path / "b").write_text("b")
    (tmp_path / "d").mkdir()
    (tmp_path / "e").mkdir()
    for old, new in (("a", "b"), ("d", "e")):
        names = wire.string(bytes(tmp_path / old)) + wire.string(bytes(tmp_path / new))
        assert status(server.answer(Op.RENAME, request(names))) == Status.FAILURE
    assert (tmp_path / "b").read_text() == "b"


@pytest.mark.parametrize(
    ("command", "found"),
    [
        ("scp -t /x", ("upload", "/x")),
        ("/usr/bin/scp -v -r -p -f -- /y", ("download", "/y")),
        ("scp -rt /x", ("upload", "/x")),
        ("scp a b", None),
        ("ls -t", None),
        ("scp", None),
        ("", None),
    ],
)
def test_scp_commands_are_recognised(command: str, found: tuple[str, str] | None) -> None:
    assert scp_direction(command) == found
