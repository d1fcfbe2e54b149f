"""The client's authentication agent on the node: a socket that only the login's user can reach (attack A58).

It lies in a directory made for it, private from its first moment and of a name nobody can guess, so that
nothing can be put there before. A process that is killed leaves its directory behind; the next one of the
same user that makes one removes it.
"""

from __future__ import annotations

import os
import re
import shutil
import socket
import stat
import tempfile
from contextlib import suppress
from pathlib import Path

from pkgs.agents.ssh.limits import LISTEN_BACKLOG
from pkgs.agents.ssh.session.streams import Streams
from pkgs.common.ssh.process.loop import READ, Loop

BASE = Path("/tmp")  # noqa: S108 - only ever a private directory of an unguessable name in it
KIND = "auth-agent@openssh.com"
_PREFIX = "teleport-agent-"
_NAME = re.compile(rf"{_PREFIX}([0-9]{{1,10}})-.*")


class AgentSocket:
    """At most one per connection, shared by the sessions that asked for it."""

    def __init__(self, loop: Loop, streams: Streams, base: Path = BASE) -> None:
        self.path = ""
        """Empty: not there."""
        self._loop = loop
        self._streams = streams
        self._base = base
        self._folder: Path | None = None
        self._sock: socket.socket | None = None

    def open(self) -> None:
        """Make it. In the reading thread; raises OSError."""
        remove_left(self._base)
        self._folder = Path(tempfile.mkdtemp(prefix=f"{_PREFIX}{os.getpid()}-", dir=self._base))
        path = self._folder / "agent"
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            sock.setblocking(False)
            sock.bind(str(path))
            path.chmod(0o600)
            sock.listen(LISTEN_BACKLOG)
        except OSError:
            sock.close()
            self.remove()
            raise
        self._sock, self.path = sock, str(path)
        self._loop.call_soon(lambda: self._loop.watch(sock.fileno(), READ, lambda: self._accept(sock)))

    def remove(self) -> None:
        """Its process ends."""
        if self._folder is not None:
            shutil.rmtree(self._folder, ignore_errors=True)
            self._folder = None

    def _accept(self, sock: socket.socket) -> None:
        with suppress(OSError):  # it went away again
            self._streams.carry(KIND, b"", sock.accept()[0])


def remove_left(base: Path) -> None:
    """Remove what this user's dead processes left in `base`. A name alone proves nothing: the directory must
    be this user's own, and no link."""
    for entry in base.glob(f"{_PREFIX}*"):
        found = _NAME.fullmatch(entry.name)
        with suppress(OSError):
            facts = entry.lstat()
            is_own = stat.S_ISDIR(facts.st_mode) and facts.st_uid == os.geteuid()
            if found and is_own and not Path(f"/proc/{found[1]}").exists():
                shutil.rmtree(entry, ignore_errors=True)
