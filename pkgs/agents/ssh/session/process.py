"""Starting and ending what runs in a session. Nothing here knows SSH.

A session's process leads its own session and process group; with a terminal, that is its controlling one.
Spawned without a Python fork: the connection's process has threads.
"""

from __future__ import annotations

import fcntl
import os
import signal
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from pkgs.agents.ssh.limits import HANGUP_STEP_S, PIPE_SIZE
from pkgs.common.ssh.process.loop import READ, Loop

SIGNALS = {
    name: getattr(signal, f"SIG{name}")
    for name in (
        "ABRT",
        "ALRM",
        "FPE",
        "HUP",
        "ILL",
        "INT",
        "KILL",
        "PIPE",
        "QUIT",
        "SEGV",
        "TERM",
        "USR1",
        "USR2",
    )
}
"""Signals of RFC 4254; a client may send these and no others."""
_RESET = [number for number in signal.valid_signals() if number not in (signal.SIGKILL, signal.SIGSTOP)]


@dataclass(frozen=True, slots=True)
class Pipes:
    """Our ends of a command's standard streams; all non-blocking."""

    stdin: int
    stdout: int
    stderr: int


@dataclass(frozen=True, slots=True)
class Launched:
    """What was started for a session: on a terminal (`master`) or with pipes."""

    pid: int
    greeting: bytes = b""
    """Shown before the first output."""
    master: int = -1
    pipes: Pipes | None = None


@dataclass(frozen=True, slots=True)
class Exit:
    status: int
    """Exit status; 255 when a signal ended it."""
    signal: str = ""
    core: bool = False


class Process:
    """A running command: knows when it ends, and can be made to."""

    def __init__(self, pid: int, loop: Loop, on_exit: Callable[[Exit], None]) -> None:
        self._pid = pid
        self._loop = loop
        self._on_exit = on_exit
        self._pidfd = os.pidfd_open(pid)
        self.running = True

    def attach(self) -> None:
        """Begin to wait for the end; in the loop's thread."""
        self._loop.watch(self._pidfd, READ, self._reap)

    def signal(self, number: int) -> None:
        """To the whole process group."""
        if self.running:
            try:
                os.killpg(self._pid, number)
            except (ProcessLookupError, PermissionError):
                return  # it has ended, or became somebody else (sudo): not ours to signal

    def hang_up(self) -> None:
        """The client is gone: SIGHUP, and what ignores it is ended."""
        self.signal(signal.SIGHUP)
        self.signal(signal.SIGCONT)
        self._loop.after(HANGUP_STEP_S, lambda: self.signal(signal.SIGTERM))
        self._loop.after(2 * HANGUP_STEP_S, lambda: self.signal(signal.SIGKILL))

    def _reap(self) -> None:
        result = os.waitid(os.P_PIDFD, self._pidfd, os.WEXITED | os.WNOHANG)
        if result is None:
            return
        self.running = False
        self._loop.unwatch(self._pidfd)
        os.close(self._pidfd)
        if result.si_code == os.CLD_EXITED:
            self._on_exit(Exit(result.si_status))
        else:
            self._on_exit(Exit(255, signal_name(result.si_status), result.si_code == os.CLD_DUMPED))


def signal_name(number: int) -> str:
    """A signal's name without SIG. Most of those for real-time use have none of their own."""
    try:
        return signal.Signals(number).name.removeprefix("SIG")
    except ValueError:
        return f"RTMIN+{number - signal.SIGRTMIN}"


def spawn_piped(path: str, argv: list[str | bytes], env: dict[str, str]) -> tuple[int, Pipes]:
    """Start with three pipes. Raises OSError."""
    ends = [os.pipe2(os.O_CLOEXEC) for _ in range(3)]
    (stdin_r, stdin_w), (stdout_r, stdout_w), (stderr_r, stderr_w) = ends
    try:
        pid = _spawn(
            path,
            argv,
            env,
            [
                (os.POSIX_SPAWN_DUP2, stdin_r, 0),
                (os.POSIX_SPAWN_DUP2, stdout_w, 1),
                (os.POSIX_SPAWN_DUP2, stderr_w, 2),
            ],
        )
    except OSError:
        for fd in (stdin_w, stdout_r, stderr_r):
            os.close(fd)
        raise
    finally:
        for fd in (stdin_r, stdout_w, stderr_w):
            os.close(fd)
    for fd in (stdin_w, stdout_r, stderr_r):
        os.set_blocking(fd, False)
    for fd in (stdin_w, stdout_r):
        try:
            fcntl.fcntl(fd, fcntl.F_SETPIPE_SZ, PIPE_SIZE)
        except OSError:
            break  # over the user's quota: the default size works too
    return pid, Pipes(stdin_w, stdout_r, stderr_r)


def spawn_on_terminal(path: str, argv: list[str | bytes], env: dict[str, str], terminal: str) -> int:
    """Start with the terminal as controlling terminal and all three streams. Raises OSError."""
    return _spawn(
        path,
        argv,
        env,
        [
            # Opened by name after setsid: that is what makes it the controlling terminal.
            (os.POSIX_SPAWN_OPEN, 0, terminal, os.O_RDWR, 0),
            (os.POSIX_SPAWN_DUP2, 0, 1),
            (os.POSIX_SPAWN_DUP2, 0, 2),
        ],
    )


def _spawn(path: str, argv: list[str | bytes], env: dict[str, str], actions: list[Any]) -> int:
    return os.posix_spawn(path, argv, env, file_actions=actions, setsid=True, setsigmask=[], setsigdef=_RESET)
