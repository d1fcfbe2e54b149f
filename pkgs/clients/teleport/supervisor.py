"""Runs services as child processes: in order, each ready before the next; restarts the dead; ends in reverse.

A child says that it is ready by `READY=1` to a private notify socket, so nothing is polled. It lives in a
session of its own (a Ctrl-C reaches only this process, which passes it on in order) and is told to end when
this process dies.
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import os
import shutil
import signal
import socket
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Final, Literal

from pkgs.common.errors import UnavailableError
from pkgs.common.runtime import sdnotify
from pkgs.common.runtime.backoff import Backoff
from pkgs.common.runtime.logging import component_log
from pkgs.common.runtime.services import Service

RESTART_FIRST_S: Final = 1.0
RESTART_MOST_S: Final = 30.0
SETTLED_S: Final = 60.0
"""A child that lived this long is restarted quickly again."""
STOP_S: Final = 25.0
"""How long a child may drain and close before it is killed."""
_PR_SET_PDEATHSIG: Final = 1
_MAX_NOTE: Final = 4096


class Child:
    """One service and its process."""

    def __init__(self, service: Service, argv: Sequence[str], notify_dir: Path) -> None:
        self.service = service
        self.argv = tuple(argv)
        self.process: asyncio.subprocess.Process | None = None
        self.ready = asyncio.Event()
        self.failed: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        self._stopping = False
        self._notify_path = notify_dir / service
        self._backoff = Backoff(RESTART_FIRST_S, RESTART_MOST_S)
        self._log = component_log("start")

    async def keep(self) -> None:
        """Starts it, and again whenever it ends; returns when it is stopped or never became ready."""
        with self._notes():
            while not self._stopping:
                code = await self._run_once()
                if self._stopping:
                    return
                if not self.ready.is_set():
                    self.failed.set_result(code)
                    return
                pause_s = self._backoff.next()
                self._log.warning(
                    "service ended, starting it again",
                    extra={"service": self.service, "exit": code, "pause_s": round(pause_s, 1)},
                )
                await asyncio.sleep(pause_s)

    async def stop(self) -> None:
        """Asks it to end, and kills it when it does not in time."""
        self._stopping = True
        process = self.process
        if process is None or process.returncode is not None:
            return
        self.signal(signal.SIGTERM)
        try:
            async with asyncio.timeout(STOP_S):
                await process.wait()
        except TimeoutError:
            self._log.warning("service did not end in time, killed", extra={"service": self.service})
            self.signal(signal.SIGKILL)
            await process.wait()

    def signal(self, number: signal.Signals) -> None:
        """Passes a signal on."""
        if self.process is not None and self.process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                self.process.send_signal(number)

    async def _run_once(self) -> int:
        loop = asyncio.get_running_loop()
        began = loop.time()
        self.process = await asyncio.create_subprocess_exec(
            *self.argv,
            stdin=asyncio.subprocess.DEVNULL,
            env={**os.environ, "NOTIFY_SOCKET": str(self._notify_path)},
            start_new_session=True,
            preexec_fn=_end_with_parent(os.getpid()),
        )
        if self._stopping:
            self.signal(signal.SIGTERM)
        code = await self.process.wait()
        if loop.time() - began > SETTLED_S:
            self._backoff.reset()
        return code

    @contextlib.contextmanager
    def _notes(self) -> Iterator[None]:
        """Listens for what the child tells of itself."""
        loop = asyncio.get_running_loop()
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK) as sock:
            sock.bind(str(self._notify_path))
            loop.add_reader(sock, self._read_note, sock)
            try:
                yield
            finally:
                loop.remove_reader(sock)

    def _read_note(self, sock: socket.socket) -> None:
        with contextlib.suppress(BlockingIOError):
            if b"READY=1" in sock.recv(_MAX_NOTE).split(b"\n"):
                self.ready.set()


async def supervise(commands: Sequence[tuple[Service, Sequence[str]]]) -> int:
    """Runs the services until a signal comes; the exit code. UnavailableError: one did not come up."""
    loop = asyncio.get_running_loop()
    log = component_log("start")
    stop = asyncio.Event()
    notify_dir = Path(tempfile.mkdtemp(prefix="teleport-"))
    children = [Child(service, argv, notify_dir) for service, argv in commands]
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGQUIT):
        loop.add_signal_handler(number, stop.set)
    for number in (signal.SIGHUP, signal.SIGUSR1):
        loop.add_signal_handler(number, _pass_on(children, number))
    keepers: list[asyncio.Task[None]] = []
    stopping = asyncio.create_task(stop.wait())
    try:
        for child in children:
            keepers.append(asyncio.create_task(child.keep(), name=f"keep-{child.service}"))
            if not await _up(child, stopping):
                break
            log.info("service is ready", extra={"service": child.service})
        else:
            sdnotify.notify("READY=1", f"MAINPID={os.getpid()}")
            await stopping
        sdnotify.notify("STOPPING=1")
        return 0
    finally:
        stopping.cancel()
        for child in reversed(children):
            await child.stop()
        for keeper in keepers:
            keeper.cancel()
        await asyncio.gather(stopping, *keepers, return_exceptions=True)
        shutil.rmtree(notify_dir, ignore_errors=True)


async def _up(child: Child, stopping: asyncio.Task[Literal[True]]) -> bool:
    """Waits until the child is ready; False when a signal came first."""
    ready = asyncio.create_task(child.ready.wait())
    waited: set[asyncio.Future[Any]] = {ready, child.failed, stopping}
    try:
        await asyncio.wait(waited, return_when=asyncio.FIRST_COMPLETED)
    finally:
        ready.cancel()
    if child.failed.done():
        raise UnavailableError(
            f"teleport-{child.service} did not start: exit {child.failed.result()}",
            hint="its message is above",
        )
    return child.ready.is_set() and not stopping.done()


def _pass_on(children: Sequence[Child], number: signal.Signals) -> Callable[[], None]:
    def send() -> None:
        for child in children:
            child.signal(number)

    return send


def _end_with_parent(parent: int) -> Callable[[], None]:
    """To be run in the child before exec: SIGTERM when the parent dies, even by SIGKILL."""
    prctl = ctypes.CDLL(None).prctl

    def prepare() -> None:
        prctl(_PR_SET_PDEATHSIG, signal.SIGTERM, 0, 0, 0)
        if os.getppid() != parent:
            os._exit(1)

    return prepare
