"""One display on a node, in the connection's process: its number, its two sockets, its cookie."""

from __future__ import annotations

import errno
import os
import shutil
import socket
import struct
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from pathlib import Path

from pkgs.agents.ssh.limits import LISTEN_BACKLOG
from pkgs.agents.ssh.session.folders import make_private
from pkgs.agents.ssh.sockets import paths
from pkgs.agents.ssh.x11 import folder, xauth
from pkgs.agents.ssh.x11.cookie import Wanted
from pkgs.common.errors import UnavailableError
from pkgs.common.ssh.process.loop import READ, Loop

_CREDENTIALS = struct.Struct("3i")

Carry = Callable[[socket.socket], None]


class Display:
    """Made by `make`, in any thread; all else in the loop's, but for `environment`."""

    def __init__(
        self, loop: Loop, number: int, wanted: Wanted, bound: paths.Bound, abstract: socket.socket
    ) -> None:
        self._loop = loop
        self._number = number
        self._wanted = wanted
        self._bound = bound
        self._sockets = (bound.sock, abstract)
        self._private: Path | None = None

    @property
    def environment(self) -> dict[str, str]:
        """How the session's programs find it."""
        assert self._private is not None
        name = f":{self._number}.{self._wanted.screen}"
        return {"DISPLAY": name, "XAUTHORITY": str(self._private / "Xauthority")}

    def authorise(self) -> None:
        """Put the cookie where X clients look for it. Raises OSError, UnavailableError."""
        self._private = make_private("x11")
        xauth.write(self._private / "Xauthority", f":{self._number}", self._wanted.cookie)

    def watch(self, carry: Carry) -> None:
        """Hand on what connects from now on."""
        for sock in self._sockets:
            self._loop.watch(sock.fileno(), READ, partial(self._accept, sock, carry))

    def close(self) -> None:
        """Nothing of it stays but what has connected."""
        self._stop()
        if self._private is not None:
            shutil.rmtree(self._private, ignore_errors=True)

    def _stop(self) -> None:
        if self._bound.sock.fileno() >= 0:
            for sock in self._sockets:
                self._loop.unwatch(sock.fileno())
                sock.close()
            self._bound.unlink()
            self._bound.close()

    def _accept(self, sock: socket.socket, carry: Carry) -> None:
        with suppress(OSError):  # it went away again
            peer, _ = sock.accept()
            if _user_of(peer) not in (0, os.geteuid()):  # anybody may connect to an abstract name
                peer.close()
                return
            if self._wanted.single:
                self._stop()
            carry(peer)


def make(loop: Loop, numbers: range, wanted: Wanted) -> Display:
    """The first display that is free. Raises OSError, UnavailableError."""
    folder.check()
    display = next(filter(None, (_claim(loop, number, wanted) for number in numbers)), None)
    if display is None:
        raise UnavailableError("no display is free on this host")
    try:
        display.authorise()
    except (OSError, UnavailableError):
        display.close()
        raise
    return display


def _claim(loop: Loop, number: int, wanted: Wanted) -> Display | None:
    """Both of a display's names, or none: X libraries try one or the other first, and who had the one could
    pass for the display to clients that try it."""
    name = f"X{number}"
    abstract = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        abstract.setblocking(False)
        abstract.bind(f"\0{folder.FOLDER}/{name}")
        abstract.listen(LISTEN_BACKLOG)
        held = paths.hold_folder(str(folder.FOLDER))
        try:
            return Display(loop, number, wanted, paths.bind(held, name), abstract)
        except OSError:
            held.close()
            raise
    except OSError as problem:
        abstract.close()
        if problem.errno != errno.EADDRINUSE:
            raise
        return None


def _user_of(peer: socket.socket) -> int:
    facts = peer.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
    return int(_CREDENTIALS.unpack(facts)[1])
