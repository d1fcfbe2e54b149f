"""Labels made by commands: run at the start and then each period, without a shell, in bounded time.

A failing command gives its error as the value, as the field does it. A name that the configuration also
sets as a fixed label stays fixed (attack A23).
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from pkgs.agents.base.limits import LABEL_LIMIT, LABEL_MIN_PERIOD_S, LABEL_TIMEOUT_S
from pkgs.common.resources.kinds import CommandLabel


@dataclass(frozen=True, slots=True)
class LabelCommand:
    name: str
    argv: tuple[str, ...]
    period: str
    """As configured, for those who look at the node."""
    period_s: float


class CommandLabels:
    """Runs the commands and holds their newest results."""

    def __init__(
        self,
        commands: Sequence[LabelCommand],
        fixed: Mapping[str, str],
        on_change: Callable[[], None],
        log: logging.Logger,
    ) -> None:
        self._commands = [command for command in commands if command.name not in fixed]
        self._results: dict[str, str] = {}
        self._on_change = on_change
        self._log = log
        self._tasks: list[asyncio.Task[None]] = []
        for command in commands:
            if command.name in fixed:
                log.warning("label %s is fixed; its command is not run", command.name)

    def current(self) -> dict[str, CommandLabel]:
        """As they go into the node's resource."""
        return {
            command.name: CommandLabel(
                command=list(command.argv), period=command.period, result=self._results[command.name]
            )
            for command in self._commands
            if command.name in self._results
        }

    async def start(self) -> None:
        """Run each once, so that the first heartbeat has them; then keep running them."""
        await asyncio.gather(*(self._refresh(command) for command in self._commands))
        self._tasks = [
            asyncio.create_task(self._repeat(command), name=f"label {command.name}")
            for command in self._commands
        ]

    async def close(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _repeat(self, command: LabelCommand) -> None:
        while True:
            await asyncio.sleep(max(LABEL_MIN_PERIOD_S, command.period_s))
            await self._refresh(command)

    async def _refresh(self, command: LabelCommand) -> None:
        value = await _run(command)
        if self._results.get(command.name) != value:
            self._results[command.name] = value
            self._on_change()


async def _run(command: LabelCommand) -> str:
    try:
        process = await asyncio.create_subprocess_exec(
            *command.argv,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
            start_new_session=True,
        )
    except OSError as problem:
        return f"{problem.strerror}: {command.argv[0]}"
    assert process.stdout is not None
    _spare_no_more(process.pid)
    try:
        async with asyncio.timeout(min(LABEL_TIMEOUT_S, max(LABEL_MIN_PERIOD_S, command.period_s) * 2)):
            output = await _read_bounded(process.stdout)
            status = await process.wait()
    except TimeoutError:
        return "the command took too long"
    finally:
        if process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                _kill_group(process.pid)
            await process.wait()
    text = output.decode(errors="replace").strip()
    return text if status == 0 else f"{text} exit status {status}".strip()


async def _read_bounded(stream: asyncio.StreamReader) -> bytes:
    """The first bytes; the rest is read and dropped, so that the command can end."""
    kept = b""
    while chunk := await stream.read(65536):
        kept += chunk[: LABEL_LIMIT - len(kept)]
    return kept


def _spare_no_more(pid: int, proc: Path = Path("/proc")) -> None:
    """A service that the kernel spares when memory runs out (`ssh/bounds/memory`) has its children spared."""
    score = proc / str(pid) / "oom_score_adj"
    with contextlib.suppress(OSError, ValueError):  # it may be over already
        if int(score.read_text()) < 0:
            score.write_text("0")


def _kill_group(pid: int) -> None:
    os.killpg(pid, signal.SIGKILL)
