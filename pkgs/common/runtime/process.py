"""The life of a service process: flags, config, data dir, readiness, signals, orderly end.

    prepare -> debug service up -> start() -> ready -> (HUP: reload)* -> TERM: drain -> close -> exit 0

Errors before readiness are one line on stderr and an exit code; never a traceback.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import gc
import logging
import os
import signal
import sys
from collections.abc import Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Protocol

from pkgs.common.errors import AccessError, InputError
from pkgs.common.resources.durations import parse_duration
from pkgs.common.runtime import hardening, limits, sdnotify
from pkgs.common.runtime.atomicfile import make_private_dir
from pkgs.common.runtime.clock import Clock, SystemClock
from pkgs.common.runtime.config import Config, config_for
from pkgs.common.runtime.debug import profiling
from pkgs.common.runtime.debug.metrics import Metrics, add_process_metrics
from pkgs.common.runtime.debug.readiness import Readiness
from pkgs.common.runtime.debug.service import DebugService, own_command_line
from pkgs.common.runtime.flags import parse_flags
from pkgs.common.runtime.logging import MAX_MESSAGE, component_log, inert, set_up
from pkgs.common.runtime.services import Service
from pkgs.common.runtime.version import VERSION

_USAGE: Final = 2
_FAILED: Final = 1


class Running(Protocol):
    """A started service, as its process sees it."""

    async def reload(self) -> None:
        """Takes up what changed outside: certificates, files. An AccessError leaves everything as it was."""

    async def drain(self, timeout_s: float) -> None:
        """Accepts nothing new and waits for open work, at most this long."""

    async def close(self) -> None:
        """Ends everything; the process exits afterwards."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Process:
    """What a service finds when it starts."""

    config: Config
    name: Service
    data_dir: Path
    log: logging.Logger
    readiness: Readiness = field(default_factory=Readiness)
    metrics: Metrics = field(default_factory=Metrics)
    clock: Clock = field(default_factory=SystemClock)

    def component_log(self, component: str) -> logging.Logger:
        """A logger below this service's own."""
        return component_log(f"{self.name}.{component}")


Start = Callable[[Process], Awaitable[Running]]


def service_main(name: Service, argv: Sequence[str] | None, start: Start) -> int:
    """Runs one service until it is told to stop; the exit code of the program."""
    program = f"teleport-{name}"
    try:
        flags = parse_flags(name, sys.argv[1:] if argv is None else argv)
    except InputError as error:
        return _refuse(program, str(error), _USAGE)
    try:
        if flags.token and not flags.token.startswith(("/", "./")):
            hardening.hide_argument(flags.token)
        config = config_for(name, flags)
        log_config = config.teleport.log
        set_up(
            log_config.severity,
            output=log_config.output,
            style=log_config.format.output,
            fields=log_config.format.shown_fields,
        )
        hardening.apply()
        make_private_dir(config.data_dir)
        process = Process(config=config, name=name, data_dir=config.data_dir, log=component_log(name))
        with _only_one(process), _pid_file(config.teleport.pid_file):
            return _run(_Life(process, start).run)
    except AccessError as error:
        return _refuse(program, str(error), _FAILED)
    except OSError as error:
        where = f"{error.filename}: " if error.filename else ""
        return _refuse(program, f"{where}{error.strerror or error}", _FAILED)
    except KeyboardInterrupt:
        return 128 + signal.SIGINT
    except Exception as error:
        component_log(name).error("unexpected end", exc_info=error)
        return _refuse(program, f"internal error, {type(error).__name__}; the log has the details", _FAILED)


def _refuse(program: str, message: str, status: int) -> int:
    print(f"{program}: error: {inert(' '.join(message.split()), MAX_MESSAGE)}", file=sys.stderr, flush=True)
    return status


def _run(main: Callable[[], Awaitable[int]]) -> int:
    async def entry() -> int:
        return await main()

    try:
        import uvloop
    except ImportError:
        return asyncio.run(entry())
    return int(uvloop.run(entry()))


class _Life:
    """One run of one service, from an empty event loop to its end."""

    def __init__(self, process: Process, start: Start) -> None:
        self._process = process
        self._start = start
        self._log = process.log
        self._stop = asyncio.Event()
        self._drain_s = limits.DRAIN_S
        self._hurry = asyncio.Event()
        self._tasks: set[asyncio.Task[None]] = set()
        self._running: Running | None = None

    async def run(self) -> int:
        """The exit code; errors at the start leave as they are."""
        process = self._process
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(self._unexpected)
        self._take_signals(loop)
        for path in process.config.without_effect:
            self._log.warning("setting has no effect in this version", extra={"setting": path})
        add_process_metrics(process.metrics, process.name, process.clock.now())
        me = process.readiness.component(process.name)
        debug = DebugService(
            process.readiness, process.metrics, process.component_log("debug"), own_command_line()
        )
        try:
            await self._open_debug(debug)
            self._running = await self._start_or_stop()
            if self._running is None:
                return 0
            me.ok()
            gc.collect()
            gc.freeze()
            self._log.info("ready", extra={"version": VERSION, "pid": os.getpid()})
            sdnotify.notify("READY=1", f"MAINPID={os.getpid()}")
            self._spawn(self._watchdog(), "watchdog")
            await self._stop.wait()
            return await self._end(self._running)
        finally:
            for task in self._tasks:
                task.cancel()
            await asyncio.gather(*self._tasks, return_exceptions=True)
            await debug.close()

    async def _open_debug(self, debug: DebugService) -> None:
        config = self._process.config
        if config.debug_service.enabled:
            await debug.start_unix(self._process.data_dir, self._process.name)
        if config.teleport.diag_addr:
            host, _, port = config.teleport.diag_addr.rpartition(":")
            await debug.start_tcp(host.strip("[]"), int(port))

    async def _start_or_stop(self) -> Running | None:
        """The started service; None when a signal came first."""
        starting = asyncio.ensure_future(self._start(self._process))
        stopping = asyncio.ensure_future(self._stop.wait())
        try:
            await asyncio.wait({starting, stopping}, return_when=asyncio.FIRST_COMPLETED)
            if starting.done():
                return starting.result()
            self._log.info("stopped while starting")
            return None
        finally:
            for future in (starting, stopping):
                future.cancel()
            await asyncio.gather(starting, stopping, return_exceptions=True)

    async def _end(self, running: Running) -> int:
        sdnotify.notify("STOPPING=1")
        delay_s = parse_duration(self._process.config.teleport.shutdown_delay)
        if delay_s and not self._hurry.is_set():
            await self._unless_hurried(asyncio.sleep(delay_s), delay_s + 1)
        self._log.info("draining", extra={"at_most_s": self._drain_s})
        if self._drain_s and not self._hurry.is_set():
            await self._unless_hurried(running.drain(self._drain_s), self._drain_s + 1)
        try:
            async with asyncio.timeout(limits.CLOSE_S):
                await running.close()
        except TimeoutError:
            self._log.warning("closing took too long", extra={"limit_s": limits.CLOSE_S})
            return _FAILED
        self._log.info("stopped")
        return 0

    async def _unless_hurried(self, work: Awaitable[None], timeout_s: float) -> None:
        """Waits for the work, until its time is over or a second signal comes."""
        task = asyncio.ensure_future(work)
        hurry = asyncio.ensure_future(self._hurry.wait())
        await asyncio.wait({task, hurry}, timeout=timeout_s, return_when=asyncio.FIRST_COMPLETED)
        for future in (task, hurry):
            future.cancel()
        results = await asyncio.gather(task, hurry, return_exceptions=True)
        if isinstance(results[0], Exception):
            self._log.warning("draining failed", exc_info=results[0])

    def _take_signals(self, loop: asyncio.AbstractEventLoop) -> None:
        for number, drain_s in (
            (signal.SIGTERM, limits.DRAIN_S),
            (signal.SIGINT, 0.0),
            (signal.SIGQUIT, limits.GRACEFUL_DRAIN_S),
        ):
            loop.add_signal_handler(number, self._on_stop, number, drain_s)
        loop.add_signal_handler(signal.SIGHUP, lambda: self._spawn(self._reload(), "reload"))
        loop.add_signal_handler(signal.SIGUSR1, self._dump)

    def _on_stop(self, number: signal.Signals, drain_s: float) -> None:
        self._log.info("signal received", extra={"signal": number.name})
        if self._stop.is_set():
            self._hurry.set()
            return
        self._drain_s = drain_s
        self._stop.set()

    async def _reload(self) -> None:
        if self._running is None:
            return
        sdnotify.notify("RELOADING=1", f"MONOTONIC_USEC={int(self._process.clock.monotonic() * 1e6)}")
        try:
            await self._running.reload()
            self._log.info("reloaded")
        except (AccessError, OSError) as error:
            self._log.error("reload refused, nothing changed", extra={"error": str(error)})
        finally:
            sdnotify.notify("READY=1")

    async def _watchdog(self) -> None:
        interval = sdnotify.watchdog_interval_s()
        while interval is not None:
            sdnotify.notify("WATCHDOG=1")
            await asyncio.sleep(interval)

    def _dump(self) -> None:
        """Diagnostics into the log: state per component, and where every task and thread is."""
        for component in self._process.readiness.components:
            self._log.info(
                "component",
                extra={
                    "component_name": component.name,
                    "state": component.state.value,
                    "reason": component.reason,
                },
            )
        for name, stack in profiling.task_stacks(asyncio.get_running_loop()):
            self._log.info("task", extra={"task": name, "stack": stack.strip()})
        for name, stack in profiling.thread_stacks():
            self._log.info("thread", extra={"thread_name": name, "stack": stack.strip()})

    def _spawn(self, work: Any, name: str) -> None:
        task: asyncio.Task[None] = asyncio.get_running_loop().create_task(work, name=name)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def _unexpected(self, _loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        error = context.get("exception")
        self._log.error("unexpected: %s", context.get("message", ""), exc_info=error)


@contextlib.contextmanager
def _only_one(process: Process) -> Iterator[None]:
    """Holds the data dir for this service; a second process of the same service is refused.

    A POSIX lock, because it is not inherited: session children may outlive a killed main process.
    """
    path = process.data_dir / f"run-{process.name}.lock"
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    try:
        try:
            fcntl.lockf(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except (BlockingIOError, PermissionError):
            raise InputError(
                f"another teleport-{process.name} uses the data dir {process.data_dir}",
                hint="stop it, or give this one its own --data-dir",
            ) from None
        yield
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def _pid_file(path: str) -> Iterator[None]:
    if not path:
        yield
        return
    file = Path(path)
    file.write_text(f"{os.getpid()}\n")
    try:
        yield
    finally:
        file.unlink(missing_ok=True)
