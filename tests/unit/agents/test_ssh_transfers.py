"""The audit of file transfers: all of it, in order, many at once, and never silently less."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Any, cast

import pytest

from pkgs.agents.ssh.limits import MAX_FILES_PER_SUMMARY, MAX_UNWRITTEN_OPERATIONS
from pkgs.agents.ssh.transfers import Transfers
from pkgs.common.errors import UnavailableError
from pkgs.common.events.codes import Kind
from pkgs.common.ssh.sessions.log import SessionLog
from pkgs.common.ssh.sessions.messages import FileOperation, FileSummary

LOG = logging.getLogger("test.transfers")


class Session:
    """Takes events as slowly as a disk does."""

    def __init__(self, disk: Callable[[], Awaitable[None]]) -> None:
        self.kept: list[tuple[str, dict[str, Any]]] = []
        self.most = 0
        self._disk = disk
        self._now = 0

    async def emit(self, kind: Kind, index: int | None = None, **fields: Any) -> None:
        self._now += 1
        self.most = max(self.most, self._now)
        try:
            await self._disk()
            self.kept.append((kind.code, fields))
        finally:
            self._now -= 1

    def log(self) -> SessionLog:
        return cast(SessionLog, self)


async def at_once() -> None:
    """A disk that is never waited for."""


def opened(number: int, error: str = "") -> FileOperation:
    return FileOperation(channel=1, operation="open", path=f"/f{number}", error=error, flags="read")


def closed(number: int) -> FileSummary:
    return FileSummary(channel=1, path=f"/f{number}", read=number, written=0)


def test_everything_is_kept_in_order_and_the_summaries_in_groups() -> None:
    session, ends = Session(at_once), list[str]()

    async def run() -> None:
        transfers = Transfers(ends.append, LOG)
        for number in range(130):
            await transfers.operation(session.log(), opened(number, "denied" if number == 3 else ""))
            await transfers.summary(session.log(), closed(number))
        await transfers.settle(1)
        transfers.close()

    asyncio.run(run())
    opens = [fields for code, fields in session.kept if code.startswith("TS001")]
    assert [fields["path"] for fields in opens] == [f"/f{number}" for number in range(130)]
    assert [code for code, fields in session.kept if fields.get("error")] == ["TS001E"]
    told = [fields["file_transfer_stats"] for code, fields in session.kept if code == "TS021I"]
    assert [len(files) for files in told] == [MAX_FILES_PER_SUMMARY, MAX_FILES_PER_SUMMARY, 30]
    assert told[-1][-1] == "/f129: 129 read, 0 written"
    assert ends == []


def test_how_many_are_on_their_way_is_bounded() -> None:
    async def run() -> None:
        free = asyncio.Event()

        async def disk() -> None:
            await free.wait()

        session = Session(disk)
        transfers = Transfers(lambda text: None, LOG)

        async def many() -> None:
            for number in range(2 * MAX_UNWRITTEN_OPERATIONS):
                await transfers.operation(session.log(), opened(number))

        task = asyncio.ensure_future(many())
        done, _ = await asyncio.wait([task], timeout=0.1)
        assert not done
        assert MAX_UNWRITTEN_OPERATIONS <= session.most <= MAX_UNWRITTEN_OPERATIONS + 64
        free.set()
        await task
        await transfers.settle(1)
        assert len(session.kept) == 2 * MAX_UNWRITTEN_OPERATIONS

    asyncio.run(run())


def test_what_cannot_be_kept_ends_the_connection() -> None:
    async def full() -> None:
        raise UnavailableError("the audit spool is full")

    async def run() -> list[str]:
        ends: list[str] = []
        transfers = Transfers(ends.append, LOG)
        session = Session(full)
        await transfers.operation(session.log(), opened(1))
        await transfers.settle(1)
        with pytest.raises(UnavailableError):
            await transfers.operation(session.log(), opened(2))
        with pytest.raises(UnavailableError):
            await transfers.summary(session.log(), closed(2))
        transfers.close()
        return ends

    assert asyncio.run(run()) == ["what is done here cannot be audited any more"]
