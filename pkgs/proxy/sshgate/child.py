"""The process of one connection to the proxy's SSH port.

It speaks SSH so that `ssh -J` and the `proxy:host:port@cluster` subsystem work without our own client, and
can do one thing: ask the proxy for a stream to a registered server. No shell, no command, no files
(attack A21). Once logged in, it stays what it was started as only if that is not root.
"""

from __future__ import annotations

import os
import signal
import socket
import tempfile
from pathlib import Path

from pkgs.common.ssh.channel import Channel, Owner, Reply
from pkgs.common.ssh.connection import Connection
from pkgs.common.ssh.forwarding import RemoteForward
from pkgs.common.ssh.limits import LOGIN_GRACE_S
from pkgs.common.ssh.owner import OPEN_CONNECT_FAILED
from pkgs.common.ssh.process.descriptors import close_all
from pkgs.common.ssh.process.link import Link, answers
from pkgs.common.ssh.process.loop import Loop
from pkgs.common.ssh.process.messages import Message, Start
from pkgs.common.ssh.process.serving import Login, watch_alive
from pkgs.common.ssh.process.splice import Splice
from pkgs.common.ssh.requests import ChannelRequest, DirectTcp, ExecRequest, ShellRequest, SubsystemRequest
from pkgs.proxy.sshgate.messages import Dial, Dialled, GateOpened, ToProcess

_NOBODY = 65534
_SUBSYSTEM = "proxy:"
_SHAPE = "the subsystem must be proxy:host:port or proxy:host:port@cluster"

_ANSWERS = answers(ToProcess)


def serve(sock: socket.socket, monitor: socket.socket, start: Start) -> None:
    """Serve one connection until it is over."""
    signal.alarm(LOGIN_GRACE_S)
    if sock.family in (socket.AF_INET, socket.AF_INET6):
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    shed_power()
    Gate(sock, monitor, start).run()


def shed_power() -> None:
    """This process needs nothing of the host: no root, no files. From before the first byte."""
    if os.geteuid() == 0:
        empty = tempfile.mkdtemp(prefix="teleport-gate-")
        os.chdir(empty)
        Path(empty).rmdir()
        os.chroot(".")
        os.setgroups([])
        os.setresgid(_NOBODY, _NOBODY, _NOBODY)
        os.setresuid(_NOBODY, _NOBODY, _NOBODY)


class Gate:
    """Owner of the connection."""

    def __init__(self, sock: socket.socket, monitor: socket.socket, start: Start) -> None:
        self.loop = Loop()
        self._start = start
        self._link = Link(monitor, self.loop, _ANSWERS, self._told_to_end, (Dialled,), self._dialled)
        login = Login(self._link, GateOpened, self._logged_in)
        self._connection = Connection(sock, login, self, start.host_keys, allow_ctr=start.allow_ctr)
        self._splices: dict[int, Splice] = {}
        self._ended = False

    def run(self) -> None:
        watch_alive(self.loop, self._start, self._connection)
        self._connection.start()
        self.loop.run()

    # What the connection asks, in its reading thread.

    def _logged_in(self, user: str, answer: GateOpened) -> None:
        signal.alarm(0)

    def open_session(self, channel: Channel) -> Owner:
        return _SubsystemOnly(self, channel)

    def open_direct_tcp(self, channel: Channel, target: DirectTcp) -> Owner:
        host = f"[{target.host}]" if ":" in target.host else target.host
        return self.dial(channel, f"{host}:{target.port}", "")

    def remote_forward(self, asked: RemoteForward) -> None:
        """The proxy listens for nobody."""

    def ended(self, reason: str) -> None:
        self.loop.call_soon(self._lost)

    def dial(self, channel: Channel, target: str, cluster: str) -> Splice:
        """Ask for a stream; the channel is spliced to it when it comes."""
        splice = Splice(self.loop, channel, self._over)
        self._splices[channel.number] = splice
        self._link.tell(Dial(channel=channel.number, target=target, cluster=cluster))
        return splice

    # The loop's thread.

    def _dialled(self, message: Message, fds: list[int]) -> None:
        assert isinstance(message, Dialled)
        splice = self._splices.get(message.channel)
        if splice is None or not fds:
            close_all(fds)
            if splice is not None:
                splice.refuse(OPEN_CONNECT_FAILED, message.refusal or "the server cannot be reached")
            return
        splice.attach(socket.socket(fileno=fds[0]))

    def _over(self, splice: Splice) -> None:
        self._splices.pop(splice.channel.number, None)
        self._maybe_exit()

    def _told_to_end(self, text: str) -> None:
        self._connection.end(text)

    def _lost(self) -> None:
        self._ended = True
        self._maybe_exit()

    def _maybe_exit(self) -> None:
        if self._ended and not self._splices:
            self.loop.stop()


class _SubsystemOnly:
    """Owner of a session channel: the proxy subsystem, and nothing else that a session can be."""

    def __init__(self, gate: Gate, channel: Channel) -> None:
        self._gate = gate
        self._channel = channel

    def opened(self) -> None:
        """The client asks first."""

    def request(self, request: ChannelRequest, reply: Reply) -> None:
        if not isinstance(request, ShellRequest | ExecRequest | SubsystemRequest):
            reply(False)
            return
        if not isinstance(request, SubsystemRequest) or not request.name.startswith(_SUBSYSTEM):
            self._channel.turn_away(reply, "this is a proxy: only jumps to servers are served here")
            return
        try:
            target, cluster = parse_subsystem(request.name)
        except ValueError:
            self._channel.turn_away(reply, _SHAPE)
            return
        channel = self._channel

        def refuse(_: int, text: str) -> None:
            channel.send(text.encode() + b"\r\n", stderr=True)
            channel.exit_status(1)
            channel.close()

        # The channel is open already: a stream that comes needs no word, one that does not, a text.
        channel.confirm, channel.refuse = (lambda: None), refuse
        channel.owner = self._gate.dial(channel, target, cluster)
        reply(True)

    def data(self, data: bytes) -> None:
        self._channel.consumed(len(data))

    def eof(self) -> None:
        """Nothing was being read."""

    def writable(self) -> None:
        """Nothing was being sent."""

    def closed(self) -> None:
        """Nothing was held."""


def parse_subsystem(name: str) -> tuple[str, str]:
    """Target and cluster of `proxy:host:port[@[namespace@]cluster]`. Raises ValueError."""
    target, *rest = name.removeprefix(_SUBSYSTEM).split("@")
    host, _, port = target.rpartition(":")
    if (
        not host
        or len(rest) > 2
        or (port and not (port.isascii() and port.isdigit() and int(port) <= 0xFFFF))
    ):
        raise ValueError(name)
    return (f"{host}:{port}" if port and int(port) else host), (rest[-1] if rest else "")
