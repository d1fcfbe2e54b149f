"""Unix sockets made on a node for a client, in the connection's process: `ssh -R /a.sock:port`."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from pathlib import PurePath

from pkgs.agents.ssh.limits import MAX_LISTENERS
from pkgs.agents.ssh.session.forwarding.streams import Streams
from pkgs.agents.ssh.sockets import paths
from pkgs.agents.ssh.sockets.messages import ListenOnSocket, SocketAnswer, SocketClosed
from pkgs.common.errors import AccessError
from pkgs.common.ssh.forwarding import UnixForward, forwarded_unix
from pkgs.common.ssh.process.link import Link
from pkgs.common.ssh.process.loop import READ, Loop

KIND = "forwarded-streamlocal@openssh.com"


@dataclass(frozen=True, slots=True)
class _Listener:
    asked: UnixForward
    bound: paths.Bound
    real: str


class Incoming:
    """Those of one connection."""

    def __init__(self, loop: Loop, link: Link, streams: Streams) -> None:
        self._loop = loop
        self._link = link
        self._streams = streams
        self._open: dict[str, _Listener] = {}
        self._ended = False

    # In the reading thread.

    def begin(self, asked: UnixForward) -> bool:
        """Make the socket and listen, if that may be; nothing is made before it is allowed."""
        folder, real, problem = None, "", ""
        try:
            path = PurePath(paths.checked(asked.path))
            if self._ended or len(self._open) >= MAX_LISTENERS:
                problem = f"too many remote forwardings: the limit is {MAX_LISTENERS}"
            else:
                folder = paths.hold_folder(str(path.parent))
                paths.check_free(folder, path.name)
                real = str(PurePath(folder.name) / path.name)
                problem = "it is forwarded already" if real in self._open else ""
        except AccessError as bad:
            problem = bad.message
        except OSError as failed:
            problem = paths.reason(failed)
        try:
            question = ListenOnSocket(path=paths.shown(asked.path), real=real, problem=problem)
            refusal = self._link.call(question, SocketAnswer).refusal
        except AccessError as gone:
            refusal = gone.message
        if refusal or folder is None:
            if folder is not None:
                folder.close()
            return False
        return self._make(asked, folder, real)

    def _make(self, asked: UnixForward, folder: paths.Held, real: str) -> bool:
        try:
            bound = paths.bind(folder, PurePath(real).name)
        except OSError as failed:
            folder.close()
            self._link.tell(SocketClosed(real=real, error=paths.reason(failed)))
            return False
        listener = _Listener(asked, bound, real)
        self._open[real] = listener
        self._loop.call_soon(lambda: self._watch(listener))
        return True

    def cancel(self, asked: UnixForward) -> bool:
        """Stop listening; what came in already goes on. The name is free when it returns."""
        found = [listener for listener in tuple(self._open.values()) if listener.asked.path == asked.path]
        if not found or not self._forget(found[0]):
            return False
        self._loop.call_soon(lambda: self._close(found[0]))
        return True

    def _forget(self, listener: _Listener) -> bool:
        """Any thread; True for the first."""
        if self._open.pop(listener.real, None) is None:
            return False
        listener.bound.unlink()
        self._link.tell(SocketClosed(real=listener.real))
        return True

    # The loop's thread.

    def end(self) -> None:
        """The connection is over."""
        self._ended = True
        for listener in tuple(self._open.values()):
            if self._forget(listener):
                self._close(listener)

    def _watch(self, listener: _Listener) -> None:
        if self._ended:
            self.end()  # it was made meanwhile
        else:
            self._loop.watch(listener.bound.sock.fileno(), READ, lambda: self._accept(listener))

    def _close(self, listener: _Listener) -> None:
        self._loop.unwatch(listener.bound.sock.fileno())
        listener.bound.close()

    def _accept(self, listener: _Listener) -> None:
        with suppress(OSError):  # it went away again
            sock, _ = listener.bound.sock.accept()
            self._streams.carry(KIND, forwarded_unix(listener.asked), sock)
