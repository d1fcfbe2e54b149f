"""The service's side of the spawner: starts it, hands it connections, keeps count, ends them.

A connection is handed over as a descriptor: an accepted TCP socket, or one end of a socket pair whose other
end the service relays to (a tunnel). The service keeps only the monitor pair.
"""

from __future__ import annotations

import asyncio
import itertools
import logging
import os
import signal
import socket
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

import msgspec

from pkgs.common.errors import LimitExceededError, UnavailableError
from pkgs.common.net.sockets import split_host_port
from pkgs.common.pki.source import source_of
from pkgs.common.ssh.limits import MAX_MESSAGE, MAX_STARTING, MAX_STARTING_OF_SOURCE
from pkgs.common.ssh.owner import HostKey
from pkgs.common.ssh.process.messages import Exited, Kill, Ready, Spawn, Start
from pkgs.common.ssh.process.monitor import Monitor, Service, Signer

_START_DEADLINE_S = 30.0
_RESTART_S = 10.0
"""How long a connection waits for a new spawner when the last one died."""
_END_GRACE_S = 2.5
_ROOT = Path(__file__).resolve().parents[4]
_KEPT_ENV = ("PATH", "LANG", "TZ", "HOME", "USER", "LOGNAME", "PYTHONDONTWRITEBYTECODE")

MakeService = Callable[[Start, Callable[[str], None]], Service]
"""Makes a connection's service; the second argument ends the connection with a text for the peer."""


class Places(Protocol):
    """Control groups for connections: `open` gives the path of one, or nothing; `close` takes it back, as
    soon as nothing runs in it: `sweep` is called whenever a process has ended."""

    def open(self) -> str: ...

    def close(self, group: str) -> None: ...

    def sweep(self) -> None: ...


class Pool:
    """All connections of one listening service.

    `host_keys` and `sign` are asked for every connection, so renewed certificates are used at once.
    """

    def __init__(
        self,
        module: str,
        make_service: MakeService,
        messages: Any,
        host_keys: Callable[[], list[HostKey]],
        sign: Signer,
        log: logging.Logger,
        *,
        allow_ctr: bool = False,
        places: Places | None = None,
    ) -> None:
        self._module = module
        self._make_service = make_service
        self._messages = messages
        self._host_keys = host_keys
        self._sign = sign
        self._log = log
        self._allow_ctr = allow_ctr
        self._places = places
        self.keep_alive_s = 300.0
        self.keep_alive_count = 3
        self._numbers = itertools.count(1)
        self._monitors: dict[int, tuple[Monitor, asyncio.Task[None]]] = {}
        self._control: socket.socket | None = None
        self._process: subprocess.Popen[bytes] | None = None
        self._ready = asyncio.Event()
        self._reader: asyncio.Task[None] | None = None
        self._closing = False
        self._encoder = msgspec.msgpack.Encoder()
        self._handing_over = asyncio.Lock()
        self._handed_over: Counter[str] = Counter()

    @property
    def open_connections(self) -> int:
        return len(self._monitors)

    async def start(self) -> None:
        """Start the spawner and wait until it can take connections."""
        self._launch()
        await self._wait_ready(_START_DEADLINE_S)

    async def serve(
        self,
        sock: socket.socket,
        client_addr: str,
        *,
        host_keys: list[HostKey] | None = None,
        make_service: MakeService | None = None,
    ) -> asyncio.Task[None]:
        """Hand over a connection; `sock` is closed here. The task ends with the connection. Host keys and a
        service of its own may be given, where the connections are not all for the same host.
        Raises LimitExceededError, UnavailableError."""
        with sock:
            source = source_of(split_host_port(client_addr)[0])
            self._check_starting(source)
            if not self._ready.is_set():
                await self._wait_ready(_RESTART_S)
            if self._closing:
                raise UnavailableError("SSH connections are not served at the moment")
            start = Start(
                number=next(self._numbers),
                client_addr=client_addr,
                host_keys=self._host_keys() if host_keys is None else host_keys,
                allow_ctr=self._allow_ctr,
                keep_alive_s=self.keep_alive_s,
                keep_alive_count=self.keep_alive_count,
                group=self._places.open() if self._places is not None else "",
            )
            ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
            sock.setblocking(True)
            self._handed_over[source] += 1
            try:
                await self._order(Spawn(start=start), (sock.fileno(), theirs.fileno()))
            except OSError:
                ours.close()
                self._leave(start)
                raise UnavailableError("SSH connections are not served at the moment") from None
            finally:
                theirs.close()
                self._handed_over[source] -= 1
                self._handed_over += Counter()  # forgets what is 0
        service = (make_service or self._make_service)(start, lambda text: self.end(start.number, text))
        monitor = Monitor(ours, start, service, self._messages, self._sign, self._log, source)
        task = asyncio.create_task(monitor.run(), name=f"ssh connection {start.number}")
        self._monitors[start.number] = (monitor, task)
        task.add_done_callback(lambda _: self._monitors.pop(start.number, None))
        task.add_done_callback(lambda _: self._leave(start))
        return task

    def _leave(self, start: Start) -> None:
        if self._places is not None and start.group:
            self._places.close(start.group)

    def _check_starting(self, source: str) -> None:
        """Strangers hold few places, and those of one source never all of them (attack A54)."""
        starting = Counter(one.source for one, _ in self._monitors.values() if not one.authenticated)
        starting += self._handed_over
        if starting.total() >= MAX_STARTING or starting[source] >= MAX_STARTING_OF_SOURCE:
            raise LimitExceededError("too many SSH connections that have not logged in yet")

    def end(self, number: int, text: str) -> None:
        """End one connection: its process is told, and killed if it does not go."""
        if entry := self._monitors.get(number):
            entry[0].end(text)
            loop = asyncio.get_running_loop()
            loop.call_later(_END_GRACE_S, self._kill, number, signal.SIGTERM)
            loop.call_later(2 * _END_GRACE_S, self._kill, number, signal.SIGKILL)

    async def drain(self, timeout_s: float) -> None:
        """Wait for the connections to end by themselves."""
        if tasks := [task for _, task in self._monitors.values()]:
            await asyncio.wait(tasks, timeout=timeout_s)

    async def close(self) -> None:
        """End every connection and the spawner."""
        self._closing = True
        tasks = [task for _, task in self._monitors.values()]
        for number in list(self._monitors):
            self.end(number, "the service is stopping")
        if tasks:
            _, late = await asyncio.wait(tasks, timeout=2.5 * _END_GRACE_S)
            for task in late:
                task.cancel()
        if self._reader is not None:
            self._reader.cancel()
            await asyncio.gather(self._reader, return_exceptions=True)
        if self._control is not None:
            self._control.close()
            self._control = None
        if self._process is not None:
            await asyncio.to_thread(self._process.wait)

    async def _wait_ready(self, deadline_s: float) -> None:
        try:
            async with asyncio.timeout(deadline_s):
                await self._ready.wait()
        except TimeoutError:
            raise UnavailableError("the process that serves SSH connections does not start") from None

    def _launch(self) -> None:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        ours.setblocking(False)
        with theirs:
            self._process = subprocess.Popen(
                [
                    sys.executable,
                    "-I",
                    str(Path(__file__).with_name("spawner.py")),
                    str(_ROOT),
                    self._module,
                    str(theirs.fileno()),
                ],
                pass_fds=(theirs.fileno(),),
                stdin=subprocess.DEVNULL,
                env={name: value for name, value in os.environ.items() if name in _KEPT_ENV},
            )
        self._control = ours
        self._reader = asyncio.create_task(self._read(ours), name="ssh spawner")

    async def _read(self, control: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        decoder = msgspec.msgpack.Decoder(Exited | Ready)
        while data := await self._receive(loop, control):
            message = decoder.decode(data)
            if isinstance(message, Ready):
                self._ready.set()
                continue
            if self._places is not None:
                self._places.sweep()
            if message.status and (code := os.waitstatus_to_exitcode(message.status)):
                self._log.warning("a connection's process ended with %d", code)
        if not self._closing:
            self._log.error("the process that serves SSH connections is gone; starting another")
            control.close()
            self._ready.clear()
            if self._process is not None:
                await asyncio.to_thread(self._process.wait)
            await asyncio.sleep(1.0)
            self._launch()

    @staticmethod
    async def _receive(loop: asyncio.AbstractEventLoop, control: socket.socket) -> bytes:
        try:
            return await loop.sock_recv(control, MAX_MESSAGE)
        except OSError:
            return b""

    async def _order(self, order: Spawn | Kill, fds: tuple[int, ...]) -> None:
        async with self._handing_over:
            data = self._encoder.encode(order)
            while True:
                if self._control is None:
                    raise OSError("no spawner")
                try:
                    socket.send_fds(self._control, [data], list(fds))
                    return
                except BlockingIOError:
                    await asyncio.sleep(0.01)  # its queue is full: it is forking as fast as it can

    def _kill(self, number: int, which: signal.Signals) -> None:
        if number in self._monitors and self._control is not None:
            try:
                self._control.send(self._encoder.encode(Kill(number=number, signal=which)))
            except OSError:
                self._log.warning("could not end connection %d", number)
