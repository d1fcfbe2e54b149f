"""Entries of utmp and its like: their bytes, and where they go."""

from __future__ import annotations

import fcntl
import logging
import os
import platform
import pty
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pkgs.agents.ssh.records import book as book_module
from pkgs.agents.ssh.records.book import Book, Files
from pkgs.agents.ssh.records.entries import (
    DEAD_PROCESS,
    LASTLOG_SIZE,
    MACHINES,
    SIZE,
    USER_PROCESS,
    Entry,
    entries,
    lastlog,
    slot,
)

NOW = 1_800_000_000.25
ANN = Entry(USER_PROCESS, "pts/3", "ann", "10.0.0.5", 4711, NOW)


def test_an_entry_is_as_long_as_glibc_has_it() -> None:
    raw = ANN.pack()
    assert len(raw) == SIZE == 384 and LASTLOG_SIZE == len(lastlog("pts/3", "h", NOW)) == 292
    assert raw[:4] == b"\x07\0\0\0" and raw[8:13] == b"pts/3" and raw[40:44] == b"ts/3"
    assert raw[44:47] == b"ann" and raw[76:84] == b"10.0.0.5" and raw[348:352] == b"\x0a\0\0\x05"
    assert list(entries(raw + b"cut")) == [ANN]


def test_what_is_too_long_is_cut() -> None:
    found = next(entries(Entry(USER_PROCESS, "x" * 40, "u" * 40, "h" * 300, 1, -5).pack()))
    assert (len(found.line), len(found.user), len(found.host), found.at) == (32, 32, 256, 0)
    assert next(entries(Entry(USER_PROCESS, "a", at=2**40).pack())).at == 2**31 - 1


def test_a_line_has_one_place() -> None:
    other = Entry(USER_PROCESS, "pts/4", "bob", pid=2)
    raw = ANN.pack() + other.pack()
    assert slot(raw, "pts/3") == 0 and slot(raw, "pts/4") == SIZE and slot(raw, "pts/5") == 2 * SIZE
    assert slot(b"", "pts/3") == 0
    assert slot(raw + b"cut", "pts/5") == 2 * SIZE


@pytest.mark.fuzz
@given(st.binary(max_size=3 * SIZE + 5), st.text(max_size=10))
def test_any_bytes_are_some_entries(raw: bytes, line: str) -> None:
    assert len(list(entries(raw))) == len(raw) // SIZE
    place = slot(raw, line)
    assert place % SIZE == 0 and place <= len(raw)


@pytest.fixture
def files(tmp_path: Path) -> Files:
    return Files(*(tmp_path / name for name in ("utmp", "wtmp", "btmp", "lastlog")))


@pytest.fixture
def line() -> Iterator[str]:
    """A terminal of this process's user."""
    master, slave = pty.openpty()
    yield os.ttyname(slave)
    os.close(master)
    os.close(slave)


def opened(files: Files, *names: str) -> Book:
    for name in names:
        getattr(files, name).touch()
    return Book(logging.getLogger("t"), lambda: NOW, files)


pytestmark_root = pytest.mark.skipif(
    os.geteuid() != 0 or platform.machine() not in MACHINES, reason="only root on x86 keeps records"
)


@pytestmark_root
class TestBook:
    def test_a_session_comes_and_goes(self, files: Files, line: str) -> None:
        book = opened(files, "utmp", "wtmp", "lastlog")
        found = book.login("root", 0, line, 77, "10.0.0.5")
        assert found is not None
        book.logout(found)
        book.close()
        (now,) = entries(files.utmp.read_bytes())
        assert (now.kind, now.line, now.user) == (DEAD_PROCESS, line.removeprefix("/dev/"), "")
        assert [each.kind for each in entries(files.wtmp.read_bytes())] == [USER_PROCESS, DEAD_PROCESS]
        assert files.lastlog.read_bytes() == lastlog(found.line, "10.0.0.5", NOW)
        assert not files.btmp.exists()

    def test_a_host_without_records_gets_none(self, files: Files, line: str) -> None:
        book = opened(files)
        assert book.login("root", 0, line, 77, "h") is not None
        book.refused("root", "h")
        book.close()
        assert not any(each.exists() for each in (files.utmp, files.wtmp, files.btmp, files.lastlog))

    @pytest.mark.parametrize(
        "told", ["/dev/tty1", "/dev/pts/../null", "pts/x", "/dev/pts/999999", "", "pts/1\n"]
    )
    def test_a_line_that_is_not_ones_own_is_not_believed(self, files: Files, told: str) -> None:
        book = opened(files, "utmp", "wtmp")
        assert book.login("root", 0, told, 77, "h") is None
        book.close()
        assert files.utmp.read_bytes() == files.wtmp.read_bytes() == b""

    def test_anothers_terminal_is_not_ones_own(self, files: Files, line: str) -> None:
        book = opened(files, "utmp")
        assert book.login("ann", 1500, line, 77, "h") is None
        assert book.login("root", 0, line, -1, "h") is None
        book.close()

    def test_who_is_not_let_in_is_noted(self, files: Files) -> None:
        book = opened(files, "btmp")
        book.refused("admin", "10.0.0.5")
        book.refused("-x\n", "10.0.0.5")
        book.close()
        (found,) = entries(files.btmp.read_bytes())
        assert (found.user, found.host, found.line) == ("admin", "10.0.0.5", "ssh:notty")

    def test_a_file_that_stays_locked_is_not_waited_for(
        self, files: Files, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
    ) -> None:
        monkeypatch.setattr(book_module, "RECORD_LOCK_PAUSE_S", 0.0)
        book = opened(files, "btmp")
        pid = os.fork()  # a lock of this process would not be in its own way
        if pid == 0:
            with files.btmp.open("r+b") as file:
                fcntl.lockf(file, fcntl.LOCK_EX)
                os.kill(os.getpid(), 19)
                os._exit(0)
        os.waitpid(pid, os.WUNTRACED)
        book.refused("admin", "h")
        book.close()
        os.kill(pid, 9)
        os.waitpid(pid, 0)
        assert files.btmp.read_bytes() == b""
        assert "is not written" in caplog.text
