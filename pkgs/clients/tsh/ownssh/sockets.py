"""Forwarded connections: listening here or having the server listen, and each connection's relay."""

from __future__ import annotations

import contextlib
import errno
import select
import socket
from collections.abc import Callable, Sequence

from pkgs.clients.tsh.ownssh import socks
from pkgs.clients.tsh.ownssh.forwards import DYNAMIC, Forward
from pkgs.clients.tsh.ownssh.limits import BACKLOG, CONNECT_S, MAX_ASKING, READ_BYTES, SOCKS_S
from pkgs.clients.tsh.ownssh.loop import Loop
from pkgs.clients.tsh.ownssh.relay import STDERR, STDOUT, Relay
from pkgs.common.errors import LimitExceededError, UnavailableError
from pkgs.common.ssh.client.connection import Connection
from pkgs.common.ssh.requests import DirectTcp

LOOPBACK = ("127.0.0.1", "::1")
_NO_FAMILY = (errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT)
"""A host may have one family of addresses alone."""

Address = tuple[int, object]
"""Its family, and what `connect` takes."""


class SocketRelay(Relay):
    """A channel and a socket, which is closed at the end."""

    def __init__(self, loop: Loop, sock: socket.socket, over: Callable[[Relay], None]) -> None:
        super().__init__(loop, None, {}, self._ended)
        self._told = over
        self._use(sock)

    def _use(self, sock: socket.socket) -> None:
        sock.setblocking(False)
        fd = sock.fileno()
        self._sock, self._source, self._sinks = sock, fd, {STDOUT: fd, STDERR: fd}

    def end_of_output(self) -> None:
        try:
            self._sock.shutdown(socket.SHUT_WR)
        except OSError:
            self.hang_up()
            return
        if self._source is None and self.channel is not None:
            self.channel.close()

    def end_of_input(self) -> None:
        super().end_of_input()
        self._settle()

    def _ended(self) -> None:
        self._sock.close()
        self._told(self)


class IncomingRelay(SocketRelay):
    """A channel that the server opened: here the connection is made after it was taken."""

    def __init__(self, loop: Loop, addresses: Sequence[Address], over: Callable[[Relay], None]) -> None:
        """`addresses`: at least one. The first that answers is connected to."""
        (family, self._address), *self._further = addresses
        super().__init__(loop, socket.socket(family, socket.SOCK_STREAM), over)
        self._connecting = True

    def on_opened(self) -> None:
        self.loop.add(self)
        super().on_opened()
        self.loop.after(CONNECT_S, self._give_up)
        self._connect()

    def _connect(self) -> None:
        try:
            self._sock.connect(self._address)  # type: ignore[arg-type]
        except BlockingIOError:
            return
        except OSError:
            self._connect_further()
            return
        self._connecting = False

    def _connect_further(self) -> None:
        if not self._further:
            self.hang_up()
            return
        (family, self._address), *self._further = self._further
        self._sock.close()
        self._use(socket.socket(family, socket.SOCK_STREAM))
        self._connect()

    def wants(self) -> dict[int, int]:
        return {self._sock.fileno(): select.POLLOUT} if self._connecting else super().wants()

    def ready(self, fd: int, events: int) -> None:
        if not self._connecting:
            super().ready(fd, events)
        elif self._sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR):
            self._connect_further()
        else:
            self._connecting = False
            self._write(STDOUT)

    def _write(self, stderr: bool) -> None:
        if not self._connecting:
            super()._write(stderr)

    def _settle(self) -> None:
        if not self._connecting or self._gone:
            super()._settle()

    def _give_up(self) -> None:
        if self._connecting and not self.finished:
            self.hang_up()


class OutgoingRelay(SocketRelay):
    """A connection that came here; the server is asked to connect it to somewhere."""

    def __init__(self, ports: LocalPorts, sock: socket.socket, *, by_socks: bool) -> None:
        super().__init__(ports.loop, sock, ports.relays.discard)
        self._say = ports.say
        self._by_socks = by_socks

    def on_opened(self) -> None:
        super().on_opened()
        self._answer(socks.GRANTED)

    def on_refused(self, text: str) -> None:
        self._answer(socks.REFUSED)
        self._say(f"the server refuses a forwarded connection: {text}")
        super().on_refused(text)

    def _answer(self, code: int) -> None:
        if self._by_socks:
            with contextlib.suppress(OSError):  # the client may be gone
                # A few bytes into an empty buffer.
                self._sock.send(socks.answer(code))


class Listener:
    """Takes connections to one local port, and opens a channel for each."""

    def __init__(self, ports: LocalPorts, sock: socket.socket, forward: Forward) -> None:
        self._ports = ports
        self.sock = sock
        self._forward = forward

    def wants(self) -> dict[int, int]:
        return {self.sock.fileno(): select.POLLIN} if self._ports.asking < MAX_ASKING else {}

    def ready(self, fd: int, events: int) -> None:
        try:
            sock, _ = self.sock.accept()
        except OSError:
            return
        if self._forward.kind == DYNAMIC:
            self._ports.loop.add(_SocksGate(self._ports, sock))
        else:
            self._ports.open(sock, self._forward.host, self._forward.host_port)


class _SocksGate:
    """A connection until it has said where it wants to go."""

    def __init__(self, ports: LocalPorts, sock: socket.socket) -> None:
        self._ports = ports
        self._sock = sock
        self._socks = socks.Socks()
        self._over = False
        sock.setblocking(False)
        ports.asking += 1
        ports.loop.after(SOCKS_S, self._end)

    def wants(self) -> dict[int, int]:
        return {self._sock.fileno(): select.POLLIN}

    def ready(self, fd: int, events: int) -> None:
        try:
            data = self._sock.recv(READ_BYTES)
            answer = self._socks.feed(data)
            if answer:
                # A few bytes into an empty buffer.
                self._sock.send(answer)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data or self._socks.failed:
            self._end()
        elif self._socks.target is not None:
            self._leave()
            self._ports.open(self._sock, *self._socks.target, rest=self._socks.rest, by_socks=True)

    def _end(self) -> None:
        if not self._over:
            self._leave()
            self._sock.close()

    def _leave(self) -> None:
        self._over = True
        self._ports.asking -= 1
        self._ports.loop.remove(self)


class LocalPorts:
    """The listeners of -L and -D, and the connections that came to them."""

    def __init__(self, loop: Loop, connection: Connection, say: Callable[[str], None]) -> None:
        self.loop = loop
        self.say = say
        self._connection = connection
        self._listeners: list[Listener] = []
        self.relays: set[Relay] = set()
        self.asking = 0
        """SOCKS clients that have not yet said where they want to go."""

    def listen(self, forward: Forward, *, everywhere: bool) -> None:
        """Raises UnavailableError when the port can't be had. `everywhere`: where nothing else is said."""
        if forward.bind is None:
            hosts: tuple[str, ...] = ("0.0.0.0", "::") if everywhere else LOOPBACK  # noqa: S104
        else:
            hosts = {"": ("0.0.0.0", "::"), "localhost": LOOPBACK}.get(forward.bind, (forward.bind,))  # noqa: S104
        problem: OSError | None = None
        found: list[socket.socket] = []
        for host in hosts:
            try:
                found.append(_bound(host, forward.port))
            except OSError as error:
                problem = problem or error
                if error.errno not in _NO_FAMILY:
                    # Somebody else listens there, and would get half of what is meant for us.
                    break
        else:
            problem = None if found else problem
        if problem is not None:
            for sock in found:
                sock.close()
            raise UnavailableError(f"cannot listen for {forward}: {problem.strerror or problem}")
        for sock in found:
            listener = Listener(self, sock, forward)
            self._listeners.append(listener)
            self.loop.add(listener)

    def open(
        self, sock: socket.socket, host: str, port: int, *, rest: bytes = b"", by_socks: bool = False
    ) -> None:
        """Have the server connect to `host`, for this connection."""
        try:
            origin = sock.getpeername()
            relay = OutgoingRelay(self, sock, by_socks=by_socks)
            relay.begin_with(rest)
            channel = self._connection.open_direct_tcp(DirectTcp(host, port, origin[0], origin[1]), relay)
        except (OSError, LimitExceededError):
            sock.close()
            return
        relay.bind(channel)
        self.relays.add(relay)
        self.loop.add(relay)

    def close(self) -> None:
        """No further connections."""
        for listener in self._listeners:
            self.loop.remove(listener)
            listener.sock.close()
        self._listeners.clear()


def _bound(host: str, port: int) -> socket.socket:
    family, kind, _, _, address = socket.getaddrinfo(
        host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE | socket.AI_NUMERICSERV
    )[0]
    sock = socket.socket(family, kind)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        sock.bind(address)
        sock.listen(BACKLOG)
        sock.setblocking(False)
    except BaseException:
        sock.close()
        raise
    return sock
