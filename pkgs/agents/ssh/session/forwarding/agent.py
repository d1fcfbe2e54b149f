"""The client's authentication agent on the node: a socket in a private folder that only the login's user can
reach (attack A58)."""

from __future__ import annotations

import shutil
import socket
from contextlib import suppress
from pathlib import Path

from pkgs.agents.ssh.limits import LISTEN_BACKLOG
from pkgs.agents.ssh.session.folders import make_private
from pkgs.agents.ssh.session.forwarding.streams import Streams
from pkgs.common.ssh.process.loop import READ, Loop

KIND = "auth-agent@openssh.com"


class AgentSocket:
    """At most one per connection, shared by the sessions that asked for it."""

    def __init__(self, loop: Loop, streams: Streams) -> None:
        self.path = ""
        """Empty: not there."""
        self._loop = loop
        self._streams = streams
        self._folder: Path | None = None

    def open(self) -> None:
        """Make it. In the reading thread; raises OSError."""
        self._folder = make_private("agent")
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
        self.path = str(path)
        self._loop.call_soon(lambda: self._loop.watch(sock.fileno(), READ, lambda: self._accept(sock)))

    def remove(self) -> None:
        """Its process ends."""
        if self._folder is not None:
            shutil.rmtree(self._folder, ignore_errors=True)
            self._folder = None

    def _accept(self, sock: socket.socket) -> None:
        with suppress(OSError):  # it went away again
            self._streams.carry(KIND, b"", sock.accept()[0])
