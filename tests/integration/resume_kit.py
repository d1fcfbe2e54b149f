"""A client whose connections a test cuts where it likes; a desk of echoes and a node that take it back."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import select
import socket
import threading
from collections.abc import Callable, Iterator
from typing import Any

from pkgs.agents.ssh.connection import SshConnection
from pkgs.agents.ssh.resume.arrivals import FromListener
from pkgs.agents.ssh.resume.desk import Desk, Guest
from pkgs.common.errors import AccessError
from pkgs.common.net.resume.state import Resumable
from pkgs.common.net.resume.wire import ACCEPT, HELLO, KNOWN, NEW, OFFER, TicketReader
from tests.integration.ssh_kit import HOST_ID, SshNode


class EchoGuest:
    """A connection whose process sends back what it reads."""

    def __init__(self) -> None:
        self.logged_in = True
        self.welcome = True
        self.abandoned_for = ""
        self.came_from: list[str] = []

    def may_go_on(self, client_addr: str) -> bool:
        self.came_from.append(client_addr)
        return self.welcome

    def can_be_away(self, is_here: Callable[[], bool]) -> None: ...

    def abandoned(self, why: str) -> None:
        self.abandoned_for = why


class EchoDesk:
    """A desk in front of such connections, on a port of its own. A context manager."""

    def __init__(self, kept_s: float = 20.0) -> None:
        self.guests: list[EchoGuest] = []
        self.sockets: list[socket.socket] = []
        self.plain: list[bytes] = []
        self._kept_s = kept_s
        self._ready = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._main()), name="desk")

    def __enter__(self) -> EchoDesk:
        self._thread.start()
        assert self._ready.wait(10)
        return self

    def __exit__(self, *_: object) -> None:
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join(20)
        assert not self._thread.is_alive()

    async def _main(self) -> None:
        self._loop, self._stop = asyncio.get_running_loop(), asyncio.Event()
        log = logging.getLogger("test.desk")
        self.desk = Desk(self._begin, lambda: "host-1", log, kept_s=self._kept_s, silent_s=0.2)
        listener = socket.create_server(("127.0.0.1", 0), backlog=512)
        listener.setblocking(False)
        self.port = listener.getsockname()[1]
        self._echoes: set[asyncio.Task[None]] = set()
        accepting = asyncio.create_task(self._accept(listener))
        self._ready.set()
        await self._stop.wait()
        accepting.cancel()
        await self.desk.close()
        for task in self._echoes:
            task.cancel()
        await asyncio.gather(*self._echoes, return_exceptions=True)
        for sock in (listener, *self.sockets):
            sock.close()

    async def _accept(self, listener: socket.socket) -> None:
        while True:
            sock, addr = await self._loop.sock_accept(listener)
            self._spawn(self._meet(sock, f"{addr[0]}:{addr[1]}"))

    def _spawn(self, work: object) -> None:
        task: asyncio.Task[None] = asyncio.create_task(work)  # type: ignore[arg-type]
        self._echoes.add(task)
        task.add_done_callback(self._echoes.discard)

    async def _meet(self, sock: socket.socket, addr: str) -> None:
        with sock, contextlib.suppress(AccessError):
            if not await self.desk.serve(FromListener(sock), addr):
                self.plain.append(await self._loop.sock_recv(sock, 100))

    async def _begin(self, sock: socket.socket, addr: str) -> Guest:
        sock.setblocking(False)
        self.sockets.append(sock)
        guest = EchoGuest()
        self.guests.append(guest)
        self._spawn(self._echo(sock))
        return guest

    async def _echo(self, sock: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := await self._loop.sock_recv(sock, 65536):
                await self._loop.sock_sendall(sock, data)
        sock.close()


class ResumableNode(SshNode):
    """A node with a desk in front, as the SSH Service has it."""

    kept_s = 30.0
    desk: Desk

    async def _accept(self, listener: socket.socket) -> None:
        self.desk = Desk(self._begin, lambda: HOST_ID, self._log, kept_s=self.kept_s, silent_s=0.2)
        tasks = set()
        try:
            while True:
                sock, addr = await self.loop.sock_accept(listener)
                task = asyncio.create_task(self._meet(sock, f"{addr[0]}:{addr[1]}"))
                tasks.add(task)
                task.add_done_callback(tasks.discard)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            await self.desk.close()

    async def _meet(self, sock: socket.socket, addr: str) -> None:
        sock.setblocking(False)
        try:
            if not await self.desk.serve(FromListener(sock), addr):
                await self.pool.serve(sock, addr)
        except AccessError:
            sock.close()

    async def _begin(self, sock: socket.socket, addr: str) -> Guest:
        made: list[SshConnection] = []

        def make(start: Any, end: Any) -> Any:
            connection = self.pool._make_service(start, end)
            assert isinstance(connection, SshConnection)
            made.append(connection)
            return connection

        await self.pool.serve(sock, addr, make_service=make)
        return made[0]


def dial(port: int, source: str = "127.0.0.1") -> socket.socket:
    """A connection on which the offer was read and taken up."""
    sock = socket.create_connection(("127.0.0.1", port), timeout=10, source_address=(source, 0))
    sock.sendall(HELLO)
    assert exactly(sock, len(OFFER)) == OFFER
    sock.sendall(ACCEPT)
    return sock


def exactly(sock: socket.socket, count: int) -> bytes:
    data = b""
    while len(data) < count:
        more = sock.recv(count - len(data))
        assert more, f"ended after {data!r}"
        data += more
    return data


class Client:
    """One resumable stream. What is written to `user` goes to the server, and the other way round."""

    def __init__(self, port: int, source: str = "127.0.0.1") -> None:
        self.user, self._local = socket.socketpair()
        self.user.settimeout(20)
        self._port = port
        self._state = Resumable()
        self._sock = dial(port, source)
        self._sock.sendall(NEW)
        ticket = TicketReader()
        while (rest := ticket.feed(self._sock.recv(1))) is None:
            pass
        assert rest == b""
        self.token, self.host_id = ticket.token, ticket.host_id
        self._thread: threading.Thread | None = None
        self.go_on()

    def go_on(self, most: int = 2**62) -> None:
        """Move bytes in the background until so many have moved, or `cut`; then the connection is gone."""
        self._most = most
        self._thread = threading.Thread(target=self._pump, name="resuming client")
        self._thread.start()

    def wait_cut(self) -> None:
        assert self._thread is not None
        self._thread.join(20)
        assert not self._thread.is_alive()

    def cut(self) -> None:
        with contextlib.suppress(OSError):
            self._sock.shutdown(socket.SHUT_RDWR)
        self.wait_cut()

    def resume(self, source: str = "127.0.0.1", most: int = 2**62) -> bool:
        """Whether the server took it up again."""
        self._sock = dial(self._port, source)
        self._sock.sendall(self.token)
        if exactly(self._sock, 1) != KNOWN:
            self._sock.close()
            return False
        self.wait_cut()  # by the server, of an old connection that is whole still
        self._state.lost()
        self._state.attach()
        self.go_on(most)
        return True

    def close(self) -> None:
        """Say that it was all, as far as there is anybody to tell."""
        self.user.close()
        assert self._thread is not None
        self._thread.join(2)
        self.cut()
        self._local.close()

    def _pump(self) -> None:
        sock, local = self._sock, self._local
        with sock, contextlib.suppress(OSError):
            while self._most > 0 and not self._state.over:
                while data := self._state.pull():
                    sock.sendall(data[: self._most])
                    self._most -= len(data)
                    if self._most <= 0:
                        return
                room = self._state.room
                ready, _, _ = select.select([sock, local] if room else [sock], [], [])
                if sock in ready:
                    data = sock.recv(min(65536, self._most))
                    if not data:
                        return
                    self._most -= len(data)
                    received = self._state.receive(memoryview(data))
                    self._state.consumed(len(received))
                    try:
                        local.sendall(received)
                    except OSError:
                        # Whoever uses it is gone: say so, as `tsh` does.
                        self._state.end()
                        continue
                    if self._state.peer_closed:
                        local.shutdown(socket.SHUT_WR)
                        self._state.end()
                if local in ready:
                    if data := local.recv(min(65536, room)):
                        self._state.put(data)
                    else:
                        self._state.end()


MakeClient = Callable[..., Client]
"""Takes what `Client` takes."""


@contextlib.contextmanager
def closing_clients() -> Iterator[MakeClient]:
    """Makes clients, and closes them at the end."""
    made: list[Client] = []

    def make(port: int, source: str = "127.0.0.1") -> Client:
        made.append(Client(port, source))
        return made[-1]

    try:
        yield make
    finally:
        for client in made:
            client.close()
