"""Remote port forwarding on a node: ports listened on for the client, as the login's user.

Bound is the loopback only, whatever address the client names (as OpenSSH does unless its administrator opens
it with `GatewayPorts`): a user must not offer services in the name of the host to its network.
"""

from __future__ import annotations

import socket
from dataclasses import dataclass

from pkgs.agents.ssh.limits import LISTEN_BACKLOG, MAX_LISTENERS
from pkgs.agents.ssh.messages import ListenerAnswer, ListenerClosed, OpenListener
from pkgs.agents.ssh.session.forwarding.streams import Streams
from pkgs.common.errors import AccessError
from pkgs.common.ssh.forwarding import RemoteForward, forwarded_tcp
from pkgs.common.ssh.process.link import Link
from pkgs.common.ssh.process.loop import READ, Loop


@dataclass(frozen=True, slots=True)
class _Listener:
    asked: RemoteForward
    port: int
    sock: socket.socket


class Listening:
    """Remote forwardings of one connection."""

    def __init__(self, loop: Loop, link: Link, streams: Streams) -> None:
        self._loop = loop
        self._link = link
        self._streams = streams
        self._open: dict[tuple[str, int], _Listener] = {}
        self._ended = False

    # In the reading thread.

    def begin(self, asked: RemoteForward) -> int | None:
        """The port that is listened on from now on; None when it may or can not be."""
        if self._ended or len(self._open) >= MAX_LISTENERS:
            self._failed(asked, f"too many remote forwardings: the limit is {MAX_LISTENERS}")
            return None
        try:
            sock = bind(asked)
        except OSError as problem:
            self._failed(asked, problem.strerror or str(problem))
            return None
        port = int(sock.getsockname()[1])
        try:
            answer = self._link.call(OpenListener(host=asked.host, port=port), ListenerAnswer)
        except AccessError:
            sock.close()
            return None
        if answer.refusal:
            sock.close()
            return None
        try:
            sock.listen(LISTEN_BACKLOG)
        except OSError as problem:
            sock.close()
            self._link.tell(ListenerClosed(host=asked.host, port=port, error=str(problem)))
            return None
        listener = _Listener(asked, port, sock)
        self._open[asked.host, port] = listener
        self._loop.call_soon(lambda: self._watch(listener))
        return port

    def cancel(self, asked: RemoteForward) -> int | None:
        """Stop listening; what came in already goes on."""
        listener = self._open.pop((asked.host, asked.port), None)
        if listener is None:
            return None
        self._loop.call_soon(lambda: self._close(listener))
        return listener.port

    def _failed(self, asked: RemoteForward, why: str) -> None:
        self._link.tell(ListenerClosed(host=asked.host, port=asked.port, error=why))

    # The loop's thread.

    def end(self) -> None:
        """The connection is over."""
        self._ended = True
        for key in tuple(self._open):
            if (listener := self._open.pop(key, None)) is not None:
                self._close(listener)

    def _watch(self, listener: _Listener) -> None:
        if self._ended or listener.sock.fileno() < 0:
            self._close(listener)
        else:
            self._loop.watch(listener.sock.fileno(), READ, lambda: self._accept(listener))

    def _close(self, listener: _Listener) -> None:
        if listener.sock.fileno() >= 0:
            self._loop.unwatch(listener.sock.fileno())
            listener.sock.close()
            self._link.tell(ListenerClosed(host=listener.asked.host, port=listener.port))

    def _accept(self, listener: _Listener) -> None:
        try:
            sock, origin = listener.sock.accept()
        except OSError:  # it went away again, or this process holds too many files: the next may do
            return
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        body = forwarded_tcp(listener.asked, listener.port, (str(origin[0]), int(origin[1])))
        self._streams.carry("forwarded-tcpip", body, sock)


def bind(asked: RemoteForward) -> socket.socket:
    """A bound socket of the loopback that does not listen yet. Raises OSError."""
    family, host = (socket.AF_INET6, "::1") if asked.host == "::1" else (socket.AF_INET, "127.0.0.1")
    sock = socket.socket(family, socket.SOCK_STREAM)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.setblocking(False)
        sock.bind((host, asked.port))
    except OSError:
        sock.close()
        raise
    return sock
