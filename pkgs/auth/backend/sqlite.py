"""The default backend: one SQLite file in WAL mode, fsynced before a write is acknowledged."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from pkgs.auth.backend.fanout import Change, Item
from pkgs.auth.backend.interface import Backend, Delete, Operation, check_commit, check_condition, checksum
from pkgs.auth.backend.limits import RANGE_PAGE, SWEEP_BATCH
from pkgs.auth.backend.lock import FileLock
from pkgs.auth.backend.writer import SqliteFile
from pkgs.common.errors import UnavailableError

_SCHEMA = """
CREATE TABLE IF NOT EXISTS items (
    key TEXT PRIMARY KEY, value BLOB NOT NULL, revision INTEGER NOT NULL, expires REAL, sum INTEGER NOT NULL);
CREATE INDEX IF NOT EXISTS items_expires ON items (expires) WHERE expires IS NOT NULL;
CREATE TABLE IF NOT EXISTS counter (one INTEGER PRIMARY KEY CHECK (one = 1), revision INTEGER NOT NULL);
INSERT OR IGNORE INTO counter VALUES (1, 0);
"""
_LAST = "\U0010ffff"
"""Sorts after everything: the end of a prefix's range is the prefix followed by it."""


class SqliteBackend(Backend):
    """State in `<directory>/state.sqlite`. Needs a running event loop; one process at a time."""

    def __init__(
        self,
        directory: Path,
        *,
        clock: Callable[[], float] = time.time,
        synchronous: str = "FULL",
        journal: str = "WAL",
    ) -> None:
        super().__init__(clock)
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._lock = FileLock(directory / "lock")
        path = directory / "state.sqlite"
        path.touch(mode=0o600)
        try:
            self._file = SqliteFile(path, _SCHEMA, synchronous=synchronous, journal=journal)
        except BaseException:
            self._lock.release()
            raise

    async def commit(self, operations: Sequence[Operation]) -> int:
        check_commit(operations)
        now = self.clock()

        def work(db: sqlite3.Connection) -> list[Change]:
            revision = _next_revision(db)
            return [_apply(db, op, revision, now) for op in operations]

        changes = await self._file.write(work, self._fanout.publish)
        return changes[0].revision

    async def get(self, key: str) -> Item | None:
        now = self.clock()

        def work(db: sqlite3.Connection) -> Item | None:
            row = db.execute(
                "SELECT key, value, revision, expires, sum FROM items WHERE key = ?"
                " AND (expires IS NULL OR expires > ?)",
                (key, now),
            ).fetchone()
            return self._item(row) if row else None

        return await self._file.read(work)

    async def range(self, prefix: str, *, after: str = "", limit: int = RANGE_PAGE) -> list[Item]:
        now = self.clock()

        def work(db: sqlite3.Connection) -> list[Item]:
            rows = db.execute(
                "SELECT key, value, revision, expires, sum FROM items WHERE key >= ? AND key < ? AND key > ?"
                " AND (expires IS NULL OR expires > ?) ORDER BY key LIMIT ?",
                (prefix, prefix + _LAST, after, now, limit),
            )
            return [self._item(row) for row in rows]

        return await self._file.read(work)

    async def sweep(self) -> int:
        now = self.clock()
        total = 0
        while True:
            changes = await self._file.write(lambda db: _sweep(db, now), self._fanout.publish)
            total += len(changes)
            if len(changes) < SWEEP_BATCH:
                return total

    async def close(self) -> None:
        await self._file.close()
        self._lock.release()

    def _item(self, row: tuple[str, bytes, int, float | None, int]) -> Item:
        key, value, revision, expires, expected = row
        if checksum(key, value) != expected:
            raise UnavailableError(
                f'the file {self._file.path} is damaged: the object "{key}" is not what was written',
                hint="restore it from a backup",
            )
        return Item(key, value, revision, expires)


def _next_revision(db: sqlite3.Connection) -> int:
    (revision,) = db.execute("UPDATE counter SET revision = revision + 1 RETURNING revision").fetchone()
    return int(revision)


def _apply(db: sqlite3.Connection, op: Operation, revision: int, now: float) -> Change:
    row = db.execute(
        "SELECT revision FROM items WHERE key = ? AND (expires IS NULL OR expires > ?)", (op.key, now)
    ).fetchone()
    check_condition(op, row[0] if row else None)
    if isinstance(op, Delete):
        db.execute("DELETE FROM items WHERE key = ?", (op.key,))
        return Change(op.key, revision)
    db.execute(
        "INSERT INTO items (key, value, revision, expires, sum) VALUES (?, ?, ?, ?, ?)"
        " ON CONFLICT (key) DO UPDATE SET value = excluded.value, revision = excluded.revision,"
        " expires = excluded.expires, sum = excluded.sum",
        (op.key, op.value, revision, op.expires, checksum(op.key, op.value)),
    )
    return Change(op.key, revision, Item(op.key, op.value, revision, op.expires))


def _sweep(db: sqlite3.Connection, now: float) -> list[Change]:
    keys = db.execute("SELECT key FROM items WHERE expires <= ? LIMIT ?", (now, SWEEP_BATCH)).fetchall()
    if not keys:
        return []
    revision = _next_revision(db)
    db.executemany("DELETE FROM items WHERE key = ?", keys)
    return [Change(key, revision) for (key,) in keys]
