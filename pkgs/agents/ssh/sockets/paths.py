"""Paths of unix sockets: which text is one, and what lies there, held by a descriptor.

A descriptor from `O_PATH` is the file itself, whatever becomes of its name. `/proc/self/fd` tells the name
that it has without links, and is a way to it that nobody else can turn.
"""

from __future__ import annotations

import errno
import os
import socket
import stat
import struct
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from pkgs.agents.ssh.limits import FORWARD_DIAL_S, LISTEN_BACKLOG, MAX_SOCKET_PATH
from pkgs.common.errors import InputError

_SEND_TIMEOUT = struct.pack("ll", int(FORWARD_DIAL_S), 0)


def checked(raw: bytes) -> str:
    """A path as a client writes it. Raises InputError: it must be absolute, short, and say where it leads."""
    path = raw.decode(errors="replace")
    if len(raw) > MAX_SOCKET_PATH:
        raise InputError(f"the path is too long: the limit is {MAX_SOCKET_PATH} bytes")
    if not is_plain(path) or path.encode() != raw:
        raise InputError("the path must be absolute, with no '.', '..' or unprintable character in it")
    return path


def is_plain(path: str) -> bool:
    """Whether it is an absolute path of nothing but names."""
    first, *names = path.split("/")
    return not first and bool(names) and path.isprintable() and not {"", ".", ".."} & set(names)


def shown(raw: bytes) -> str:
    """Any bytes a client called a path, to be read by people."""
    return raw[: 2 * MAX_SOCKET_PATH].decode(errors="backslashreplace")


def reason(problem: OSError) -> str:
    """What the kernel has against it."""
    return problem.strerror or str(problem)


@dataclass(frozen=True, slots=True)
class Held:
    """Something on the disk, and what it is called without links. Close it."""

    fd: int
    name: str

    @property
    def way(self) -> str:
        """A path to it that no link can turn."""
        return f"/proc/self/fd/{self.fd}"

    def close(self) -> None:
        os.close(self.fd)


def hold_socket(path: str, folder: int | None = None, *, links: bool = True) -> Held:
    """The unix socket of this name, in an open folder or anywhere. Raises OSError."""
    return _hold(path, os.O_PATH | (0 if links else os.O_NOFOLLOW), stat.S_ISSOCK, errno.ENOTSOCK, folder)


def hold_folder(path: str) -> Held:
    """Raises OSError."""
    return _hold(path, os.O_PATH, stat.S_ISDIR, errno.ENOTDIR)


def connect(held: Held) -> socket.socket:
    """Blocking, for a bounded time. Raises OSError."""
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        # A full queue is waited for by the kernel: there is nothing to poll.
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, _SEND_TIMEOUT)
        sock.connect(held.way)
    except OSError:
        sock.close()
        raise
    return sock


@dataclass(frozen=True, slots=True)
class Bound:
    """A socket that was made in a folder, to be listened on."""

    sock: socket.socket
    folder: Held
    name: str
    made: tuple[int, int]

    def unlink(self) -> None:
        """Remove its name, unless that has become something else's (attack A58)."""
        with suppress(OSError):
            if _facts(self.folder, self.name) == self.made:
                os.unlink(self.name, dir_fd=self.folder.fd)

    def close(self) -> None:
        self.sock.close()
        self.folder.close()


def check_free(folder: Held, name: str) -> None:
    """Raise OSError if a socket of this name can't be made in the folder, as far as that shows before."""
    if not os.access(folder.way, os.W_OK | os.X_OK):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
    with suppress(FileNotFoundError):
        _facts(folder, name)
        if not _is_dead(folder, name):
            raise OSError(errno.EADDRINUSE, os.strerror(errno.EADDRINUSE))


def bind(folder: Held, name: str) -> Bound:
    """Make a socket that only this user can connect to, from its first moment, and listen. Never over
    anything but the same user's own socket that nobody listens on: a killed process left it. Takes the folder
    over, unless it raises OSError."""
    if _is_dead(folder, name):
        os.unlink(name, dir_fd=folder.fd)
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        os.fchmod(sock.fileno(), 0o600)  # Linux makes the file with the mode of the socket, less the umask
        sock.setblocking(False)
        sock.bind(f"{folder.way}/{name}")
        made = Bound(sock, folder, name, _facts(folder, name))
    except OSError:
        sock.close()
        raise
    try:
        sock.listen(LISTEN_BACKLOG)
    except OSError:
        made.unlink()
        sock.close()
        raise
    return made


def _hold(
    path: str, flags: int, is_kind: Callable[[int], bool], wrong: int, folder: int | None = None
) -> Held:
    fd = os.open(path, flags | os.O_CLOEXEC, dir_fd=folder)
    try:
        if not is_kind(os.fstat(fd).st_mode):
            raise OSError(wrong, os.strerror(wrong))
        return Held(fd, str(Path(f"/proc/self/fd/{fd}").readlink()))
    except OSError:
        os.close(fd)
        raise


def _is_dead(folder: Held, name: str) -> bool:
    """Whether that is this user's own socket, and nobody listens on it."""
    try:
        found = hold_socket(name, folder.fd, links=False)
    except OSError:
        return False
    try:
        if os.fstat(found.fd).st_uid == os.geteuid():
            connect(found).close()
    except ConnectionRefusedError:
        return True
    except OSError:
        return False  # its queue is full, for example
    finally:
        found.close()
    return False


def _facts(folder: Held, name: str) -> tuple[int, int]:
    facts = os.stat(name, dir_fd=folder.fd, follow_symlinks=False)
    return facts.st_dev, facts.st_ino
