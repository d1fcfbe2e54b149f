"""Channels that the server opens towards us: only for ports and the agent that it was asked to forward."""

from __future__ import annotations

import os
import socket
import threading

from pkgs.clients.tsh.ownssh.forwards import Forward
from pkgs.clients.tsh.ownssh.limits import ANSWER_S
from pkgs.clients.tsh.ownssh.loop import Loop
from pkgs.clients.tsh.ownssh.relay import Relay
from pkgs.clients.tsh.ownssh.sockets import Address, IncomingRelay
from pkgs.common.errors import UnavailableError
from pkgs.common.ssh.client.channel import IncomingOwner
from pkgs.common.ssh.client.connection import Connection
from pkgs.common.ssh.forwarding import RemoteForward
from pkgs.common.ssh.wire import Reader


class Incoming:
    """What the server may open, from the first request on. Anything else is refused (attack A66)."""

    def __init__(self, loop: Loop, connection: Connection, *, agent: bool) -> None:
        self._loop = loop
        self._connection = connection
        self._agent = os.environ.get("SSH_AUTH_SOCK", "") if agent else ""
        self._forwards: dict[tuple[str, int], Forward] = {}
        self.relays: set[Relay] = set()
        connection.expect(self._decide)

    def listen(self, forward: Forward, *, everywhere: bool) -> int:
        """Have the server listen; the port that it took. Raises UnavailableError."""
        usual = "" if everywhere else "localhost"
        asked = RemoteForward(usual if forward.bind is None else forward.bind, forward.port)
        answered = threading.Event()
        port = 0

        def hear(ok: bool, reader: Reader) -> None:
            # In the reading thread: the server may open a channel right behind its answer.
            nonlocal port
            if ok:
                port = forward.port or reader.uint32()
                self._forwards[(asked.host, port)] = forward
            answered.set()

        self._connection.forward_remote(asked, hear)
        if not answered.wait(ANSWER_S) or not port:
            raise UnavailableError(f"the server does not listen for {forward}")
        return port

    def _decide(self, kind: str, reader: Reader) -> IncomingOwner | None:
        if kind == "auth-agent@openssh.com" and self._agent:
            return self._relay([(socket.AF_UNIX, self._agent)])
        if kind != "forwarded-tcpip":
            return None
        forward = self._forwards.get((reader.text(), reader.uint32()))
        if forward is None:
            return None
        try:
            found = socket.getaddrinfo(forward.host, forward.host_port, type=socket.SOCK_STREAM)
        except OSError:
            return None
        return self._relay([(one[0], one[4]) for one in found])

    def _relay(self, addresses: list[Address]) -> IncomingRelay:
        relay = IncomingRelay(self._loop, addresses, self.relays.discard)
        self.relays.add(relay)
        return relay
