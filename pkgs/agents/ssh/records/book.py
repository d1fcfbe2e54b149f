"""Keeps the host's records of logins. What cannot be written is a warning: they are for people, the audit is
elsewhere. One thread writes, in order; who asks never waits.
"""

from __future__ import annotations

import fcntl
import logging
import os
import platform
import re
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from pkgs.agents.ssh.limits import MAX_LASTLOG_UID, RECORD_LOCK_PAUSE_S, RECORD_LOCK_TRIES
from pkgs.agents.ssh.records.entries import (
    DEAD_PROCESS,
    LASTLOG_SIZE,
    LOGIN_PROCESS,
    MACHINES,
    USER_PROCESS,
    Entry,
    lastlog,
    slot,
)
from pkgs.common.resources.names import valid_login

_LINE = re.compile(r"pts/[0-9]{1,6}", re.ASCII)


@dataclass(frozen=True, slots=True)
class Files:
    utmp: Path = Path("/run/utmp")
    wtmp: Path = Path("/var/log/wtmp")
    btmp: Path = Path("/var/log/btmp")
    lastlog: Path = Path("/var/log/lastlog")


@dataclass(frozen=True, slots=True)
class LoggedIn:
    """A terminal session that is in the records."""

    line: str
    pid: int


class Book:
    """`close` it last. Only root writes; for anybody else all of this does nothing."""

    def __init__(self, log: logging.Logger, now: Callable[[], float], files: Files | None = None) -> None:
        self._log = log
        self._now = now
        self._files = files or Files()
        self._works = os.geteuid() == 0 and platform.machine() in MACHINES
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="records")

    def close(self) -> None:
        self._thread.shutdown()

    def login(self, user: str, uid: int, terminal: str, pid: int, host: str) -> LoggedIn | None:
        """A shell or command runs on a terminal. `terminal` and `pid` come from the user's own process: a
        line is only believed if its device is the user's. None: it is not recorded."""
        line = terminal.removeprefix("/dev/")
        if not self._works or not _LINE.fullmatch(line) or not 0 < pid < 2**31 or not _owns(line, uid):
            return None
        at = self._now()
        entry = Entry(USER_PROCESS, line, user, host, pid, at)
        self._soon(lambda: self._put(entry))
        self._soon(lambda: _append(self._files.wtmp, entry))
        if uid <= MAX_LASTLOG_UID:
            self._soon(lambda: _write_at(self._files.lastlog, uid * LASTLOG_SIZE, lastlog(line, host, at)))
        return LoggedIn(line, pid)

    def logout(self, session: LoggedIn) -> None:
        entry = Entry(DEAD_PROCESS, session.line, pid=session.pid, at=self._now())
        self._soon(lambda: self._put(entry))
        self._soon(lambda: _append(self._files.wtmp, entry))

    def refused(self, user: str, host: str) -> None:
        """Somebody was not let in as this login."""
        if self._works and valid_login(user):
            entry = Entry(LOGIN_PROCESS, "ssh:notty", user, host, at=self._now())
            self._soon(lambda: _append(self._files.btmp, entry))

    def _put(self, entry: Entry) -> None:
        with self._files.utmp.open("r+b", buffering=0) as file:
            _lock(file.fileno())
            raw = file.read()
            file.seek(slot(raw, entry.line))
            file.write(entry.pack())

    def _soon(self, work: Callable[[], None]) -> None:
        self._thread.submit(self._try, work)

    def _try(self, work: Callable[[], None]) -> None:
        try:
            work()
        except FileNotFoundError:
            return  # a host that keeps no such record
        except OSError as problem:
            self._log.warning("a record of a login is not written: %s", problem)


def _owns(line: str, uid: int) -> bool:
    try:
        return Path("/dev", line).lstat().st_uid == uid
    except OSError:
        return False


def _append(path: Path, entry: Entry) -> None:
    fd = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CLOEXEC | os.O_NOFOLLOW)
    try:
        _lock(fd)
        os.write(fd, entry.pack())
    finally:
        os.close(fd)


def _write_at(path: Path, position: int, data: bytes) -> None:
    fd = os.open(path, os.O_WRONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
    try:
        os.pwrite(fd, data, position)
    finally:
        os.close(fd)


def _lock(fd: int) -> None:
    """As glibc does. Anybody may hold a lock for reading: what is locked for too long is not written. Raises
    BlockingIOError."""
    for last in [False] * RECORD_LOCK_TRIES + [True]:
        try:
            fcntl.lockf(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return
        except BlockingIOError:
            if last:
                raise
            time.sleep(RECORD_LOCK_PAUSE_S)
