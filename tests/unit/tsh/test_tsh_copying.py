"""The client of `tsh scp --continue`: the same server as agents have, and servers that lie."""

from __future__ import annotations

import contextlib
import io
import os
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pkgs.agents.ssh.session.sftp.server import FileServer
from pkgs.agents.ssh.session.sftp.wire import Packets, data_packet, handle_packet, version_packet
from pkgs.clients.tsh.copying.continuing import Continuing
from pkgs.clients.tsh.copying.limits import CHUNK
from pkgs.clients.tsh.copying.sftp import FOR_READING, FOR_WRITING, Sftp
from pkgs.clients.tsh.profile.login import Login
from pkgs.common.errors import AccessError, ConflictError, InputError, NotFoundError, ProtocolError
from pkgs.common.ssh.wire import Reader

Answer = Callable[[int, bytes], bytes]


@contextmanager
def talking(answer: Answer) -> Iterator[Sftp]:
    """A client whose server answers each packet so."""
    ours, theirs = socket.socketpair()

    def serve() -> None:
        packets = Packets()
        with contextlib.suppress(OSError):  # a client that has seen enough hangs up
            while data := theirs.recv(65536):
                packets.feed(data)
                while (packet := packets.take()) is not None:
                    theirs.sendall(answer(*packet))

    thread = threading.Thread(target=serve)
    thread.start()
    source, sink = ours.makefile("rb"), ours.makefile("wb")
    try:
        yield Sftp(source, sink)
    finally:
        ours.shutdown(socket.SHUT_RDWR)
        thread.join(10)
        for each in (sink, source, ours, theirs):
            each.close()


@contextmanager
def honest() -> Iterator[Sftp]:
    server = FileServer(lambda operation: None, lambda *args: None)
    with talking(server.answer) as sftp:
        yield sftp
    server.close()


class Copies(Continuing):
    """Without ssh: `far` is the server's disk, and what the server says of a file may be a lie."""

    def __init__(self, sftp: Sftp, far_hash: str = "") -> None:
        super().__init__(cast(Login, None), "", by_openssh=True, preserve=True, quiet=True)
        self._sftp = sftp
        self._far_hash = far_hash

    @contextmanager
    def _connected(self, host: str) -> Iterator[Sftp]:
        yield self._sftp

    def _remote_hash(self, host: str, path: str, size: int) -> str:
        from hashlib import sha256

        return self._far_hash or sha256(Path(path).read_bytes()[:size]).hexdigest()


@pytest.mark.parametrize("there", [0, 1, CHUNK, CHUNK * 70 + 3, 3_000_000])
def test_downloads_go_on_from_any_place(tmp_path: Path, there: int) -> None:
    far, near = tmp_path / "far", tmp_path / "near"
    data = os.urandom(3_000_000)
    far.write_bytes(data)
    os.utime(far, (1_000_000, 2_000_000))
    far.chmod(0o4750)
    near.write_bytes(data[:there])
    with honest() as sftp:
        Copies(sftp).copy([("root@h", str(far))], ("", str(near)))
    assert near.read_bytes() == data
    assert near.stat().st_mtime == 2_000_000
    assert near.stat().st_mode & 0o7777 == 0o750  # a server makes no file here that runs as somebody else


@pytest.mark.parametrize("there", [0, 1, CHUNK, CHUNK * 70 + 3, 3_000_000])
def test_uploads_go_on_from_any_place(tmp_path: Path, there: int) -> None:
    far, near = tmp_path / "far", tmp_path / "near"
    data = os.urandom(3_000_000)
    near.write_bytes(data)
    os.utime(near, (1_000_000, 2_000_000))
    far.write_bytes(data[:there])
    with honest() as sftp:
        Copies(sftp).copy([("", str(near))], ("root@h", str(far)))
    assert far.read_bytes() == data
    assert far.stat().st_mtime == 2_000_000


def test_several_files_go_to_a_folder(tmp_path: Path) -> None:
    near, far = tmp_path / "near", tmp_path / "far"
    for folder in (near, far):
        folder.mkdir()
    (far / "a").write_bytes(b"first")
    (far / "b").write_bytes(b"second")
    (near / "b").write_bytes(b"sec")
    with honest() as sftp:
        copies = Copies(sftp)
        copies.copy([("root@h", str(far / "a")), ("root@h", str(far / "b"))], ("", str(near)))
        assert {path.name: path.read_bytes() for path in near.iterdir()} == {"a": b"first", "b": b"second"}
        with pytest.raises(InputError):
            copies.copy([("root@h", str(far / "a")), ("root@h", str(far / "b"))], ("", str(near / "a")))
        with pytest.raises(InputError):
            copies.copy([("root@h", "a"), ("", "b")], ("", str(near)))
        with pytest.raises(InputError):
            copies.copy([("root@h", str(far))], ("", str(near)))
        with pytest.raises(InputError):
            copies.copy([("root@h", "~somebody/x")], ("", str(near)))
        with pytest.raises(NotFoundError):
            copies.copy([("root@h", str(far / "none"))], ("", str(near)))
        with pytest.raises(NotFoundError):
            copies.copy([("", str(near / "none"))], ("root@h", str(far)))


@pytest.mark.parametrize("up", [True, False])
@pytest.mark.parametrize("there", [b"other", b"longer than the whole file"])
def test_what_is_no_beginning_is_left_alone(tmp_path: Path, up: bool, there: bytes) -> None:
    whole, part = tmp_path / "whole", tmp_path / "part"
    whole.write_bytes(b"whole file")
    part.write_bytes(there)
    with honest() as sftp, pytest.raises(ConflictError):
        places = ("", "root@h") if up else ("root@h", "")
        Copies(sftp).copy([(places[0], str(whole))], (places[1], str(part)))
    assert part.read_bytes() == there


def test_a56_a_server_chooses_neither_names_nor_amounts(tmp_path: Path) -> None:
    victim = tmp_path / "victim"
    victim.write_bytes(b"mine")
    for name in ("..", ".", "", "a/.."):
        with honest() as sftp, pytest.raises(InputError):
            Copies(sftp).copy([("root@h", f"{tmp_path}/{name}")], ("", str(tmp_path)))

    def more_than_asked(kind: int, body: bytes) -> bytes:
        if kind == 1:
            return version_packet([])
        request = Reader(body).uint32()
        return handle_packet(request, b"h") if kind == 3 else data_packet(request, b"x" * (CHUNK + 1))

    target = tmp_path / "target"
    with talking(more_than_asked) as sftp, target.open("wb") as out, pytest.raises(ProtocolError):
        sftp.read_into(sftp.open(b"x", FOR_READING), out.fileno(), 0, CHUNK, lambda done: None)
    assert target.read_bytes() == b""
    assert victim.read_bytes() == b"mine"


def test_short_reads_leave_no_hole(tmp_path: Path) -> None:
    data = os.urandom(10 * CHUNK)

    def short(kind: int, body: bytes) -> bytes:
        reader = Reader(body)
        if kind == 1:
            return version_packet([])
        request = reader.uint32()
        reader.string()
        at, size = int.from_bytes(reader.take(8), "big"), reader.uint32()
        return data_packet(request, data[at : at + min(size, 10_000)])

    target = tmp_path / "target"
    with talking(short) as sftp, target.open("wb") as out:
        sftp.read_into(b"h", out.fileno(), 0, len(data), lambda done: None)
    assert target.read_bytes() == data


def test_a_file_that_shrinks_is_an_error_and_not_an_endless_wait(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"x" * 100)
    with honest() as sftp, (tmp_path / "out").open("wb") as out, pytest.raises(AccessError):
        sftp.read_into(sftp.open(bytes(path), FOR_READING), out.fileno(), 0, 1000, lambda done: None)
    with honest() as sftp, path.open("rb") as source, pytest.raises(AccessError):
        sftp.write_from(sftp.open(bytes(path), FOR_WRITING), source.fileno(), 0, 1000, lambda done: None)


@pytest.mark.fuzz
@given(st.binary(max_size=200))
def test_any_server_is_understood_or_refused(data: bytes) -> None:
    source: Any = io.BytesIO(b"\0\0\0\5\2\0\0\0\3" + data)
    try:
        sftp = Sftp(cast(IO[bytes], source), io.BytesIO())
        sftp.find(b"x")
        sftp.close(sftp.open(b"x", FOR_READING))
    except (AccessError, EOFError):
        return
