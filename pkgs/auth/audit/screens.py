"""The text of recorded screens, to be searched: written while recordings arrive, in a file of its own.

It can be lost without loss: it holds nothing that the recordings do not. What of a session is indexed is
bounded; the recording itself is whole. Lines of encrypted recordings are locked by the recording's own key.
"""

from __future__ import annotations

import logging
import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from pkgs.auth import limits
from pkgs.auth.audit import lockedlines
from pkgs.auth.audit.lockedlines import Effort, Hit, Lock
from pkgs.auth.backend.writer import SqliteFile
from pkgs.common.errors import InputError, UnavailableError
from pkgs.common.recording.decoder import Decoder
from pkgs.common.recording.encrypted.keys import Unwrap
from pkgs.common.recording.encrypted.reading import Decryptor
from pkgs.common.recording.model import Item, SessionMeta
from pkgs.common.recording.showing.lines import Lines, ShownLine

_log = logging.getLogger(__name__)
_SCHEMA = """
CREATE TABLE IF NOT EXISTS lines (
    id INTEGER PRIMARY KEY, sid TEXT NOT NULL, ms INTEGER NOT NULL, text TEXT NOT NULL);
CREATE INDEX IF NOT EXISTS lines_sid ON lines (sid);
CREATE VIRTUAL TABLE IF NOT EXISTS words
    USING fts5(text, content='lines', content_rowid='id', tokenize='trigram');
CREATE TRIGGER IF NOT EXISTS lines_in AFTER INSERT ON lines BEGIN
    INSERT INTO words (rowid, text) VALUES (new.id, new.text); END;
CREATE TRIGGER IF NOT EXISTS lines_out AFTER DELETE ON lines BEGIN
    INSERT INTO words (words, rowid, text) VALUES ('delete', old.id, old.text); END;
"""
LEAST = 3
"""Characters of a pattern: the index knows a line by its groups of three."""


class Screens:
    def __init__(self, path: Path, opened_by: Unwrap) -> None:
        """`opened_by` unwraps the keys of encrypted recordings."""
        self._opened_by = opened_by
        path.touch(mode=0o600)
        try:
            self._file = SqliteFile(path, _SCHEMA + lockedlines.SCHEMA, synchronous="NORMAL")
        except UnavailableError as problem:
            _log.error("the index of recordings is made anew: %s", problem)
            for suffix in ("", "-wal", "-shm"):
                path.with_name(path.name + suffix).unlink(missing_ok=True)
            path.touch(mode=0o600)
            self._file = SqliteFile(path, _SCHEMA + lockedlines.SCHEMA, synchronous="NORMAL")

    async def forget(self, session_id: str) -> None:
        """Keep nothing of this session."""

        def work(db: sqlite3.Connection) -> None:
            db.execute("DELETE FROM lines WHERE sid = ?", (session_id,))
            db.execute("DELETE FROM locked WHERE sid = ?", (session_id,))

        await self._file.write(work)

    async def add(self, session_id: str, lines: Sequence[ShownLine], lock: Lock | None) -> None:
        """With `lock` they are readable only by who has the recording's key."""

        def work(db: sqlite3.Connection) -> None:
            # Both kinds count in one row of ids, by which a search goes back in time.
            (first,) = db.execute(
                "SELECT max((SELECT coalesce(max(id), 0) FROM lines),"
                " (SELECT coalesce(max(last), 0) FROM locked)) + 1"
            ).fetchone()
            if lock is not None:
                lockedlines.insert(db, session_id, lines, lock, first)
                return
            rows = [(first + at, session_id, line.ms, line.text) for at, line in enumerate(lines)]
            db.executemany("INSERT INTO lines (id, sid, ms, text) VALUES (?, ?, ?, ?)", rows)

        await self._file.write(work)

    async def search(
        self, pattern: str, *, before: int, limit: int, effort: Effort | None = None
    ) -> list[Hit]:
        """Lines that contain the pattern, whatever its case, newest first, with ids below `before`. Pages of
        one answer share an `effort`."""
        phrase = '"' + pattern.replace('"', '""') + '"'
        rows = await self._file.read(
            lambda db: db.execute(
                "SELECT id, sid, ms, lines.text FROM words JOIN lines ON lines.id = words.rowid"
                " WHERE words MATCH ? AND words.rowid < ? ORDER BY words.rowid DESC LIMIT ?",
                (phrase, before, limit),
            ).fetchall()
        )
        # Older locked lines than the oldest of a full page are for a later one.
        least = rows[-1][0] if len(rows) == limit else 0
        locked = await lockedlines.search(
            self._file, self._opened_by, pattern, before=before, limit=limit, least=least, effort=effort
        )
        return sorted([*(Hit(*row) for row in rows), *locked], reverse=True)[:limit]

    async def close(self) -> None:
        await self._file.close()


def check_pattern(pattern: str) -> None:
    """InputError for one that cannot be searched for."""
    if len(pattern.strip()) < LEAST:
        raise InputError(f"a pattern has at least {LEAST} characters")
    if len(pattern) > limits.SCREEN_PATTERN_MAX or not pattern.isprintable():
        raise InputError(f"a pattern is one line of at most {limits.SCREEN_PATTERN_MAX} characters")


class Reading:
    """The lines of one recording as its bytes come in, encrypted or not, up to the limits."""

    def __init__(self, decryptor: Decryptor) -> None:
        self._decryptor = decryptor
        self.meta: SessionMeta | None = None
        """Whose recording it says it is, once that has come."""
        self._decoder = Decoder()
        self._lines = Lines()
        self._room = limits.SCREEN_TEXT_MAX

    def feed(self, chunk: bytes) -> list[ShownLine]:
        """What `chunk` completes. CPU time in proportion to it: not for the event loop."""
        if self._room <= 0:
            return []
        return self._bounded(self._lines.feed(self._noting(self._decoder.feed(self._decryptor.feed(chunk)))))

    def _noting(self, items: Iterable[Item]) -> Iterator[Item]:
        for item in items:
            if isinstance(item, SessionMeta):
                self.meta = item
            yield item

    def finish(self) -> list[ShownLine]:
        """Raises TrustError for an encrypted recording whose key could not be unwrapped."""
        if self._room <= 0:
            return []
        rest = self._bounded(self._lines.feed(self._decoder.feed(self._decryptor.finish())))
        return [
            *rest,
            *self._bounded(self._lines.feed(self._decoder.finish())),
            *self._bounded(self._lines.finish()),
        ]

    def _bounded(self, lines: Iterable[ShownLine]) -> list[ShownLine]:
        taken: list[ShownLine] = []
        for line in lines:
            self._room -= len(line.text) + limits.SCREEN_LINE_COST
            if self._room <= 0:
                break
            taken.append(line)
        return taken
