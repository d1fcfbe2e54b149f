"""Extensions of OpenSSH, attributes and error codes of the SFTP server."""

from __future__ import annotations

import os
import pwd
from collections.abc import Iterator
from pathlib import Path

import pytest

from pkgs.agents.ssh.session.sftp import filesystem
from pkgs.agents.ssh.session.sftp.limits import MAX_IDS
from pkgs.agents.ssh.session.sftp.wire import Op, Status
from pkgs.common.ssh import wire
from tests.unit.agents.sftp_kit import Client, name, number

READ, WRITE, CREATE = 1, 2, 8


@pytest.fixture
def client() -> Iterator[Client]:
    made = Client()
    yield made
    made.server.close()


def test_what_is_offered_is_answered(client: Client) -> None:
    assert client.offered == {
        "posix-rename@openssh.com": "1",
        "statvfs@openssh.com": "2",
        "fstatvfs@openssh.com": "2",
        "hardlink@openssh.com": "1",
        "fsync@openssh.com": "1",
        "lsetstat@openssh.com": "1",
        "limits@openssh.com": "1",
        "expand-path@openssh.com": "1",
        "copy-data": "1",
        "home-directory": "1",
        "users-groups-by-id@openssh.com": "1",
    }
    for extension in client.offered:
        kind, reader = client.ask(Op.EXTENDED, wire.string(extension))
        assert kind != 101 or reader.uint32() != Status.UNSUPPORTED
    assert client.extended("unknown@example.com") == Status.UNSUPPORTED


def test_copy_data_copies_a_part_or_all(client: Client, tmp_path: Path) -> None:
    data = os.urandom(300_000)
    (tmp_path / "a").write_bytes(data)
    source, target = client.open(tmp_path / "a", READ), client.open(tmp_path / "b", WRITE | CREATE)
    assert client.extended("copy-data", source, number(0), number(0), target, number(0)) == Status.OK
    assert (tmp_path / "b").read_bytes() == data
    assert client.extended("copy-data", source, number(7), number(5), target, number(300_000)) == Status.OK
    assert (tmp_path / "b").read_bytes() == data + data[7:12]
    assert client.extended("copy-data", source, number(299_999), number(5), target, number(0)) == Status.EOF
    client.server.close()
    assert client.files == [(str(tmp_path / "a"), 300_006, 0), (str(tmp_path / "b"), 0, 300_006)]
    assert [done.flags for done in client.told] == ["read", "write create"]


def test_copy_data_without_the_kernels_help(
    client: Client, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(*_: object) -> int:
        raise OSError(18, "other device")

    monkeypatch.setattr(filesystem.os, "copy_file_range", refused)
    data = os.urandom(600_000)
    (tmp_path / "a").write_bytes(data)
    source, target = client.open(tmp_path / "a", READ), client.open(tmp_path / "b", WRITE | CREATE)
    assert client.extended("copy-data", source, number(0), number(0), target, number(0)) == Status.OK
    assert (tmp_path / "b").read_bytes() == data


def test_copy_data_never_runs_for_ever(client: Client, tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"x" * 1000)
    file, same = client.open(tmp_path / "a", READ | WRITE), client.open(tmp_path / "a", READ)
    zero = client.open(b"/dev/zero", READ)
    for source in (file, same, zero):
        copied = client.extended("copy-data", source, number(0), number(1 << 62), file, number(0))
        assert copied == Status.FAILURE
    client.wanted = False  # the client has gone, or was told to
    target = client.open(tmp_path / "b", WRITE | CREATE)
    assert client.extended("copy-data", same, number(0), number(0), target, number(0)) == Status.FAILURE
    assert (tmp_path / "b").read_bytes() == b""


def test_homes_are_those_of_the_users_and_not_of_the_service(
    client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", "/nonexistent")
    own = os.fsencode(os.path.realpath(pwd.getpwuid(os.geteuid()).pw_dir))
    root = os.fsencode(pwd.getpwnam("root").pw_dir)
    assert client.names(Op.EXTENDED, wire.string("home-directory"), wire.string("root")) == [root]
    assert client.names(Op.EXTENDED, wire.string("home-directory"), wire.string("")) == [own]
    expand = wire.string("expand-path@openssh.com")
    assert client.names(Op.EXTENDED, expand, wire.string("~")) == [own]
    assert client.names(Op.EXTENDED, expand, wire.string("~/x")) == [own + b"/x"]
    assert client.names(Op.EXTENDED, expand, wire.string("~root/")) == [root]
    for nobody in (b"nosuchuser", b"\xff\xfe"):
        assert client.extended("home-directory", wire.string(nobody)) == Status.NO_SUCH_FILE
        assert client.extended("expand-path@openssh.com", wire.string(b"~" + nobody)) == Status.NO_SUCH_FILE


def test_names_of_users_and_groups(client: Client) -> None:
    ids = wire.string(wire.uint32(0) + wire.uint32(4_000_000_000))
    request = (wire.string("users-groups-by-id@openssh.com"), ids, ids)
    kind, reader = client.ask(Op.EXTENDED, *request)
    assert kind == 201
    for _ in range(2):
        names = wire.Reader(reader.string())
        assert (names.text(), names.text()) == ("root", "")
    many = wire.string(wire.uint32(0) * (MAX_IDS + 1))
    assert client.extended("users-groups-by-id@openssh.com", many, many) == Status.FAILURE


def test_attributes_of_a_link_are_its_own(client: Client, tmp_path: Path) -> None:
    file, link = tmp_path / "file", tmp_path / "link"
    file.write_bytes(b"12345")
    file.chmod(0o600)
    link.symlink_to(file)
    times = wire.uint32(8) + wire.uint32(1_000_000) + wire.uint32(2_000_000)
    assert client.extended("lsetstat@openssh.com", name(link), times) == Status.OK
    assert link.lstat().st_mtime == 2_000_000
    assert file.stat().st_mtime != 2_000_000
    mode = wire.uint32(4) + wire.uint32(0o644)
    assert client.extended("lsetstat@openssh.com", name(link), mode) == Status.FAILURE
    assert file.stat().st_mode & 0o777 == 0o600
    assert client.extended("lsetstat@openssh.com", name(file), mode) == Status.OK
    assert file.stat().st_mode & 0o777 == 0o644
    size = wire.uint32(1) + number(1)
    assert client.extended("lsetstat@openssh.com", name(file), size) == Status.BAD_MESSAGE
    assert file.stat().st_size == 5
    assert client.status(Op.SETSTAT, name(link), size) == Status.OK
    assert file.stat().st_size == 1
    assert [(done.name, done.attributes, bool(done.error)) for done in client.told] == [
        ("setstat", {"access_time": "1000000", "modification_time": "2000000"}, False),
        ("setstat", {"permissions": "0644"}, True),
        ("setstat", {"permissions": "0644"}, False),
        ("setstat", {"size": "1"}, True),
        ("setstat", {"size": "1"}, False),
    ]


def test_error_codes_are_those_of_openssh(client: Client, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "loop").symlink_to("loop")
    none = wire.uint32(0)
    assert client.status(Op.STAT, name(tmp_path / "no")) == Status.NO_SUCH_FILE
    assert client.status(Op.STAT, name(tmp_path / "file" / "x")) == Status.NO_SUCH_FILE
    assert client.status(Op.STAT, name(tmp_path / "loop")) == Status.NO_SUCH_FILE
    assert client.status(Op.READLINK, name(tmp_path / "file")) == Status.BAD_MESSAGE
    assert client.status(Op.STAT, name(tmp_path / ("x" * 300))) == Status.BAD_MESSAGE
    assert client.status(Op.STAT, name(b"a\0b")) == Status.BAD_MESSAGE
    assert client.status(Op.MKDIR, name(tmp_path / "file"), none) == Status.FAILURE
    assert client.status(Op.REALPATH, name(tmp_path / "no" / "x")) == Status.NO_SUCH_FILE
    assert client.names(Op.REALPATH, name(tmp_path / "no")) == [os.fsencode(tmp_path / "no")]
    assert client.names(Op.REALPATH, name(b"")) == [os.fsencode(Path.cwd())]
    assert client.status(99, b"") == Status.UNSUPPORTED
    # As of anybody who may not: also true of root.
    assert client.status(Op.OPEN, name(b"/proc/1/mem/"), wire.uint32(1), none) == Status.NO_SUCH_FILE


def test_offsets_appending_and_truncation(client: Client, tmp_path: Path) -> None:
    path = tmp_path / "sparse"
    handle = client.open(path, WRITE | CREATE)
    far = 5 * 1024**3
    assert client.status(Op.WRITE, handle, number(far), wire.string(b"end")) == Status.OK
    assert path.stat().st_size == far + 3
    assert path.stat().st_blocks < 1000
    assert client.status(Op.WRITE, handle, number(1 << 63), wire.string(b"x")) == Status.BAD_MESSAGE
    kind, reader = client.ask(Op.READ, client.open(path, READ), number(far - 1), wire.uint32(100))
    assert (kind, reader.string()) == (103, b"\0end")
    assert client.status(Op.FSETSTAT, handle, wire.uint32(1), number(4)) == Status.OK
    appending = client.open(path, 2 | 4)
    assert client.status(Op.WRITE, appending, number(0), wire.string(b"tail")) == Status.OK
    assert path.read_bytes() == b"\0" * 4 + b"tail"
    client.open(path, 2 | 16)
    assert path.read_bytes() == b""
