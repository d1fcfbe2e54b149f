"""A stand-in for a database server that misbehaves: it goes a real server's way to some point, and then
does as its script says."""

from __future__ import annotations

import contextlib
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from pkgs.common.dbwire.mysql import answers, handshake
from pkgs.common.dbwire.mysql.flags import OFFERED, Capability
from pkgs.common.dbwire.mysql.packets import frame
from pkgs.common.dbwire.postgres import backend

GREETING = frame(0, handshake.greeting(handshake.Greeting("8.0", 1, b"x" * 20, OFFERED | Capability.SSL)))
LET_IN = {
    "postgres": backend.authentication_ok() + backend.ready(),
    "mysql": frame(3, answers.ok()),
    "redis": b"+OK\r\n",
}
"""Answers to a login."""
Script = Callable[[socket.socket], None]
"""What it does with a connection, which is closed at its end. An OSError ends it as well."""


def before_tls(protocol: str, sock: socket.socket) -> None:
    """To where TLS begins."""
    if protocol == "postgres":
        sock.recv(8, socket.MSG_WAITALL)
        sock.sendall(b"S")
    elif protocol == "mysql":
        sock.sendall(GREETING)
        sock.recv(36, socket.MSG_WAITALL)


def within_tls(protocol: str, context: ssl.SSLContext, script: Script) -> Script:
    """The script begins inside TLS."""

    def go(sock: socket.socket) -> None:
        before_tls(protocol, sock)
        with context.wrap_socket(sock, server_side=True) as inside:
            script(inside)

    return go


def logged_in(protocol: str, context: ssl.SSLContext, script: Script) -> Script:
    """The script begins when everybody has been let in."""

    def go(sock: socket.socket) -> None:
        sock.recv(4096)
        sock.sendall(LET_IN[protocol])
        script(sock)

    return within_tls(protocol, context, go)


def hold(sock: socket.socket) -> None:
    """Say nothing until the other side has gone."""
    while sock.recv(4096):
        pass


@dataclass
class Hostile:
    port: int
    _listener: socket.socket
    connections: int = 0
    """At this moment."""
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def take_no_more(self) -> None:
        """As if it were down; who is connected stays."""
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()

    def idle(self) -> bool:
        return not self.connections

    def count(self, change: int) -> None:
        with self._lock:
            self.connections += change


@contextlib.contextmanager
def hostile(script: Script) -> Iterator[Hostile]:
    """Serves any number of connections, each in a thread; all have ended when this ends."""
    threads: list[threading.Thread] = []

    def connection(sock: socket.socket) -> None:
        with contextlib.suppress(OSError), sock:
            sock.settimeout(60)
            script(sock)
        server.count(-1)

    def serve() -> None:
        with contextlib.suppress(OSError):
            while True:
                sock, _ = listener.accept()
                server.count(1)
                threads.append(threading.Thread(target=connection, args=(sock,)))
                threads[-1].start()

    with socket.create_server(("127.0.0.1", 0)) as listener:
        server = Hostile(listener.getsockname()[1], listener)
        accepting = threading.Thread(target=serve)
        accepting.start()
        try:
            yield server
        finally:
            server.take_no_more()
            accepting.join(10)
            for thread in threads:
                thread.join(60)
                assert not thread.is_alive()
