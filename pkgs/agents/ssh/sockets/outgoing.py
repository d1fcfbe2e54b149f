"""Unix sockets that a client wants to reach on a node, in the connection's process: `ssh -L port:/a.sock`."""

from __future__ import annotations

import socket
from typing import Literal

from pkgs.agents.ssh.sockets import paths
from pkgs.agents.ssh.sockets.messages import OpenSocket, SocketAnswer, SocketStream
from pkgs.common.errors import InputError
from pkgs.common.ssh.owner import OPEN_CONNECT_FAILED, OPEN_PROHIBITED, OpenRefused
from pkgs.common.ssh.process.link import Link


class WayToSocket:
    """A `Way` (`session/forwarding/outgoing`) of one channel."""

    def __init__(self, link: Link, channel: int, path: bytes) -> None:
        self._link = link
        self._channel = channel
        self._path = path

    def reach(self) -> socket.socket:
        held, problem = None, ""
        try:
            held = paths.hold_socket(paths.checked(self._path))
        except InputError as bad:
            problem = bad.message
        except OSError as failed:
            problem = paths.reason(failed)
        try:
            return self._connect(held, problem)
        finally:
            if held is not None:
                held.close()

    def _connect(self, held: paths.Held | None, problem: str) -> socket.socket:
        name = held.name if held is not None else ""
        asked = OpenSocket(channel=self._channel, path=paths.shown(self._path), real=name, problem=problem)
        answer = self._link.call(asked, SocketAnswer)
        if answer.refusal or held is None:
            code = OPEN_CONNECT_FAILED if answer.unreachable else OPEN_PROHIBITED
            raise OpenRefused(code, answer.refusal)
        try:
            return paths.connect(held)
        except OSError as failed:
            self.tell("failed", paths.reason(failed))
            raise OpenRefused(OPEN_CONNECT_FAILED, paths.reason(failed)) from None

    def tell(self, what: Literal["started", "stopped", "failed"], error: str = "") -> None:
        self._link.tell(SocketStream(channel=self._channel, what=what, error=error))
