"""The audit of one connection's file transfers: every operation, many in one write to the disk.

Copying twenty thousand files makes as many events. They are kept in order, but gathered for a moment, so
that many share one wait for the disk; how many may be on their way is bounded, and beyond that the transfer
waits. One that cannot be kept ends the connection. Files that were closed are told of in groups.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

from pkgs.agents.ssh.limits import (
    MAX_FILES_PER_SUMMARY,
    MAX_UNWRITTEN_OPERATIONS,
    OPERATIONS_PER_WRITE,
    OPERATIONS_WAIT_S,
    SUMMARY_WAIT_S,
)
from pkgs.common.events import codes
from pkgs.common.events.types import FieldValue
from pkgs.common.ssh.sessions.log import SessionLog
from pkgs.common.ssh.sessions.messages import FileOperation, FileSummary


class Transfers:
    """Belongs to one connection. `give_up` ends it, with a text for the user."""

    def __init__(self, give_up: Callable[[str], None], log: logging.Logger) -> None:
        self._give_up = give_up
        self._log = log
        self._gathered: list[tuple[SessionLog, codes.Kind, dict[str, FieldValue]]] = []
        self._gathering: asyncio.TimerHandle | None = None
        self._unwritten: set[asyncio.Task[None]] = set()
        self._files: dict[int, tuple[SessionLog, list[str]]] = {}
        self._timer: asyncio.TimerHandle | None = None
        self._problem: BaseException | None = None
        self._copying: set[int] = set()

    @property
    def live(self) -> bool:
        """Whether a session that copies files goes on."""
        return bool(self._copying)

    def began(self, channel: int) -> None:
        """The session of this channel copies files."""
        self._copying.add(channel)

    async def operation(self, session: SessionLog, done: FileOperation) -> None:
        """Raises what kept an earlier one from being kept, UnavailableError for a full disk."""
        kind, action = codes.sftp_kind(done.operation, ok=not done.error)
        attributes: dict[str, str | list[str]] = dict(done.attributes)
        await self._room()
        self._emit(
            session,
            kind,
            action=action,
            path=done.path,
            target_path=done.target_path or None,
            flags=done.flags or None,
            attributes=attributes or None,
            error=done.error or None,
        )

    async def summary(self, session: SessionLog, closed: FileSummary) -> None:
        """A file was closed. Told with others, SUMMARY_WAIT_S later or at the session's end."""
        await self._room()
        _, files = self._files.setdefault(closed.channel, (session, []))
        files.append(f"{closed.path}: {closed.read} read, {closed.written} written")
        if len(files) >= MAX_FILES_PER_SUMMARY:
            self._sum_up(closed.channel)
        elif self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(SUMMARY_WAIT_S, self._sum_up_all)

    async def settle(self, channel: int) -> None:
        """All of a session's events are kept, or never will be: what follows may tell of its end."""
        self._copying.discard(channel)
        self._sum_up(channel)
        self._write()
        while self._unwritten:
            await asyncio.wait(self._unwritten)

    def close(self) -> None:
        """Nothing is waited for any more."""
        for timer in (self._timer, self._gathering):
            if timer is not None:
                timer.cancel()

    async def _room(self) -> None:
        while len(self._unwritten) >= MAX_UNWRITTEN_OPERATIONS:
            await asyncio.wait(self._unwritten, return_when=asyncio.FIRST_COMPLETED)
        if self._problem is not None:
            raise self._problem

    def _sum_up_all(self) -> None:
        self._timer = None
        for channel in list(self._files):
            self._sum_up(channel)

    def _sum_up(self, channel: int) -> None:
        session, files = self._files.pop(channel, (None, []))
        if session is not None:
            self._emit(session, codes.SFTP_SUMMARY, file_transfer_stats=files)

    def _emit(self, session: SessionLog, kind: codes.Kind, **fields: FieldValue) -> None:
        self._gathered.append((session, kind, fields))
        if len(self._gathered) >= OPERATIONS_PER_WRITE:
            self._write()
        elif self._gathering is None:
            self._gathering = asyncio.get_running_loop().call_later(OPERATIONS_WAIT_S, self._write)

    def _write(self) -> None:
        if self._gathering is not None:
            self._gathering.cancel()
            self._gathering = None
        gathered, self._gathered = self._gathered, []
        for session, kind, fields in gathered:
            # Tasks begin in the order of their making, and an event takes its place as its task begins.
            task = asyncio.ensure_future(session.emit(kind, None, **fields))
            self._unwritten.add(task)
            task.add_done_callback(self._written)

    def _written(self, task: asyncio.Task[None]) -> None:
        self._unwritten.discard(task)
        problem = None if task.cancelled() else task.exception()
        if problem is not None and self._problem is None:
            self._problem = problem
            self._log.error("a file transfer is not audited: %s", problem)
            self._give_up("what is done here cannot be audited any more")
