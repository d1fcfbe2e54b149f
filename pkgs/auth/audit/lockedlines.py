"""Lines of encrypted recordings in the index: each batch locked by its recording's own key, gone through in
turn by a search, since an index of their words would tell the words."""

from __future__ import annotations

import asyncio
import logging
import sqlite3
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import msgspec

from pkgs.auth import limits
from pkgs.auth.backend.writer import SqliteFile
from pkgs.common.errors import LimitExceededError, TrustError
from pkgs.common.recording.encrypted.keys import (
    ContentKey,
    Unwrap,
    WrappedKey,
    decode_wrapped,
    encode_wrapped,
    unwrap,
)
from pkgs.common.recording.showing.lines import ShownLine

SCHEMA = """
CREATE TABLE IF NOT EXISTS locked (
    last INTEGER PRIMARY KEY, lines INTEGER NOT NULL, sid TEXT NOT NULL, wrapped BLOB NOT NULL,
    box BLOB NOT NULL);
CREATE INDEX IF NOT EXISTS locked_sid ON locked (sid);
"""
_ENCODER = msgspec.msgpack.Encoder()
_LINES = msgspec.msgpack.Decoder(list[tuple[int, str]])
_log = logging.getLogger(__name__)


class Lock(NamedTuple):
    """What locks the lines of one recording."""

    key: ContentKey
    wrapped: WrappedKey


@dataclass(slots=True)
class Effort:
    """What one answer of a search costs, over all its pages."""

    spent: int = 0

    def spend(self, size: int) -> None:
        """Raises LimitExceededError."""
        self.spent += size
        if self.spent > limits.LOCKED_LINES_SCANNED:
            raise LimitExceededError(
                "there are more lines of encrypted recordings than one search goes through",
                hint="`tctl recordings export --format=text` shows those of one session",
            )


class Hit(NamedTuple):
    id: int
    session_id: str
    ms: int
    text: str


class _Row(NamedTuple):
    last: int
    lines: int
    sid: str
    wrapped: bytes
    box: bytes


def insert(
    db: sqlite3.Connection, session_id: str, lines: Sequence[ShownLine], lock: Lock, first: int
) -> None:
    """Add lines with the ids from `first` on."""
    box = lock.key.lock(_ENCODER.encode([(line.ms, line.text) for line in lines]), _about(session_id))
    db.execute(
        "INSERT INTO locked (last, lines, sid, wrapped, box) VALUES (?, ?, ?, ?, ?)",
        (first + len(lines) - 1, len(lines), session_id, encode_wrapped(lock.wrapped), box),
    )


async def search(
    file: SqliteFile,
    opened_by: Unwrap,
    pattern: str,
    *,
    before: int,
    limit: int,
    least: int = 0,
    effort: Effort | None = None,
) -> list[Hit]:
    """Lines that contain the pattern, whatever its case, newest first, with ids from `least` on and below
    `before`. Raises LimitExceededError when there is too much to go through."""
    wanted, found = pattern.casefold(), list[Hit]()
    effort = effort or Effort()
    keys: dict[str, ContentKey | None] = {}
    upto = await file.read(lambda db: _holding(db, before - 1))
    while len(found) < limit:
        rows = await file.read(lambda db, upto=upto: _page(db, upto, least))  # type: ignore[misc]
        if not rows:
            break
        effort.spend(sum(len(row.box) + len(row.wrapped) for row in rows))
        found += await asyncio.to_thread(_matching, rows, wanted, before, opened_by, keys)
        upto = rows[-1].last - 1
    return found[:limit]


def _holding(db: sqlite3.Connection, line: int) -> int:
    """The `last` of the batch that holds this line; the line's own id when none does."""
    (last,) = db.execute("SELECT min(last) FROM locked WHERE last >= ?", (line,)).fetchone()
    return line if last is None else int(last)


def _page(db: sqlite3.Connection, upto: int, least: int) -> list[_Row]:
    # By the primary key alone: batches are many, and each page must not pass by those before it.
    rows = db.execute(
        "SELECT last, lines, sid, wrapped, box FROM locked WHERE last <= ? AND last >= ?"
        " ORDER BY last DESC LIMIT ?",
        (upto, least, limits.LOCKED_ROWS_READ),
    )
    return [_Row(*row) for row in rows]


def _matching(
    rows: list[_Row], wanted: str, before: int, opened_by: Unwrap, keys: dict[str, ContentKey | None]
) -> list[Hit]:
    found: list[Hit] = []
    for row in rows:
        if row.sid not in keys:
            keys[row.sid] = _key_of(row, opened_by)
        key = keys[row.sid]
        raw = key.unlock(row.box, _about(row.sid)) if key is not None else None
        if raw is None:
            continue
        ids = range(row.last - row.lines + 1, row.last + 1)
        for at, (ms, text) in reversed(list(zip(ids, _LINES.decode(raw), strict=False))):
            if at < before and wanted in text.casefold():
                found.append(Hit(at, row.sid, ms, text))
    return found


def _key_of(row: _Row, opened_by: Unwrap) -> ContentKey | None:
    wrapped = decode_wrapped(row.wrapped)
    try:
        return unwrap(wrapped, opened_by, row.sid) if wrapped is not None else None
    except TrustError as problem:
        _log.warning("a recording is not searched: %s", problem, extra={"sid": row.sid})
        return None


def _about(session_id: str) -> bytes:
    return b"screen lines\0" + session_id.encode()
