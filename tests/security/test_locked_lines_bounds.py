"""What a search through the lines of encrypted recordings may cost, however they are laid out."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pkgs.auth import limits
from pkgs.auth.audit import lockedlines
from pkgs.auth.audit.lockedlines import Lock
from pkgs.common.api.resources import PutResource
from pkgs.common.errors import LimitExceededError
from pkgs.common.recording.encrypted.keys import AgeKey, new_private_key, wrap_new
from pkgs.common.recording.showing.lines import ShownLine
from tests.integration.auth_kit import auth, run
from tests.integration.test_auth_kept_recordings import found, kept
from tests.security.test_encrypted_recordings import settings

ALL = (1 << 63) - 1


class _Memory:
    """What `search` needs of a file, counting the steps of SQLite by the hundred."""

    def __init__(self) -> None:
        self.db = sqlite3.connect(":memory:")
        self.db.executescript(lockedlines.SCHEMA)
        self.steps = 0

    def _count(self) -> None:
        self.steps += 1

    async def read(self, work: Callable[[sqlite3.Connection], Any]) -> Any:
        self.db.set_progress_handler(self._count, 100)
        return work(self.db)


def steps_of(batches: int) -> int:
    """For a search through this many batches of one line."""
    file, key = _Memory(), AgeKey(new_private_key())
    lock = Lock(*wrap_new("a session", [key.public_key]))
    for number in range(batches):
        lockedlines.insert(file.db, "a session", [ShownLine(0, "shown")], lock, number + 1)
    hits = asyncio.run(
        lockedlines.search(
            file,  # type: ignore[arg-type]
            lambda wrapped: key.open(wrapped.envelope),
            "never",
            before=ALL,
            limit=1,
        )
    )
    assert hits == []
    return file.steps


def test_a_search_costs_in_proportion_to_the_lines() -> None:
    """A session streamed as it happens leaves a batch each second: a million of them in a fortnight."""
    assert steps_of(4000) < 6 * max(steps_of(1000), 1)


def test_the_limit_holds_for_an_answer_and_not_for_each_of_its_pages(
    short_tmp: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "LOCKED_ROWS_READ", 1)
    monkeypatch.setattr(limits, "SEARCH_PAGE", 2)

    async def main() -> None:
        async with auth(short_tmp) as kit:
            await kit.admin.call(PutResource(resource=settings(), mode="upsert"))
            host = await kit.join()
            for _ in range(8):
                await kept(kit, host, "shown\n" * 2)
            assert len(await found(kit.admin, "shown")) == 16
            monkeypatch.setattr(limits, "LOCKED_LINES_SCANNED", 1500)
            with pytest.raises(LimitExceededError):
                await found(kit.admin, "shown")

    run(main)


def test_a_page_of_lines_in_the_clear_does_not_go_through_the_locked_ones_below(
    short_tmp: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "SEARCH_PAGE", 2)

    async def main() -> None:
        async with auth(short_tmp) as kit:
            host = await kit.join()
            await kit.admin.call(PutResource(resource=settings(), mode="upsert"))
            for _ in range(4):
                await kept(kit, host, "shown\n" * 50)
            await kit.admin.call(PutResource(resource=settings(enabled=False), mode="upsert"))
            await kept(kit, host, "shown\n" * 12)
            monkeypatch.setattr(limits, "LOCKED_LINES_SCANNED", 1)
            assert len(await found(kit.admin, "shown", limit=12)) == 12

    run(main)
