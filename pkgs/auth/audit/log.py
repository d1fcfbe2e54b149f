"""The audit log: hash-chained events in the order they were acknowledged, in an SQLite file of its own.

Beside the events it knows which host runs which session (first `session.start` claims the id), because
that decides who may add to the session's story and upload its recording.
"""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Iterator, Sequence
from pathlib import Path

import msgspec

from pkgs.auth import limits
from pkgs.auth.backend.writer import SqliteFile
from pkgs.common.api.audit import AuditVerdict, SearchEvents, StoredEvent
from pkgs.common.errors import InputError, LimitExceededError, UnavailableError
from pkgs.common.events import chain
from pkgs.common.events.codes import (
    DB_SESSION_END,
    DB_SESSION_START,
    RELAYED_TO,
    SESSION_DATA,
    SESSION_END,
    SESSION_START,
    UNKNOWN,
)
from pkgs.common.events.format import from_json, to_json, unix_time
from pkgs.common.events.types import Event

_SCHEMA = """
CREATE TABLE IF NOT EXISTS events (
    seq INTEGER PRIMARY KEY, time REAL NOT NULL, type TEXT NOT NULL, user TEXT NOT NULL, sid TEXT NOT NULL,
    source TEXT NOT NULL, uid TEXT NOT NULL, body BLOB NOT NULL, hash TEXT NOT NULL, UNIQUE (source, uid));
CREATE INDEX IF NOT EXISTS events_time ON events (time);
CREATE INDEX IF NOT EXISTS events_type ON events (type, seq);
CREATE INDEX IF NOT EXISTS events_sid ON events (sid, seq) WHERE sid != '';
CREATE TABLE IF NOT EXISTS head (
    one INTEGER PRIMARY KEY CHECK (one = 1), seq INTEGER NOT NULL, hash TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS sessions (
    sid TEXT PRIMARY KEY, host_id TEXT NOT NULL, user TEXT NOT NULL, login TEXT NOT NULL,
    hostname TEXT NOT NULL, started REAL NOT NULL, ended REAL NOT NULL,
    participants TEXT NOT NULL, command TEXT NOT NULL, size INTEGER NOT NULL DEFAULT -1);
CREATE INDEX IF NOT EXISTS sessions_started ON sessions (started);
"""


_ONLY_BY_OWNER = frozenset(
    {SESSION_START.event, SESSION_END.event, SESSION_DATA.event, DB_SESSION_START.event, DB_SESSION_END.event}
)
NOT_RECORDED = -1
"""As a size: no recording is stored."""


class SessionRow(msgspec.Struct, frozen=True):
    """What the log knows of a session; `size` is -1 until a recording has arrived."""

    session_id: str
    host_id: str
    user: str
    login: str
    hostname: str
    started: float
    ended: float
    participants: list[str]
    command: str
    size: int
    kind: str = "ssh"
    """`ssh` or `db`."""


class AuditLog:
    def __init__(self, path: Path) -> None:
        path.touch(mode=0o600)
        self._file = SqliteFile(path, _SCHEMA)
        self._news = asyncio.Event()
        # One at a time: the threads that recordings are written in are few.
        self._verifying = asyncio.Lock()

    async def append(self, events: Sequence[Event], *, host_id: str = "") -> list[StoredEvent]:
        """Store durably, in this order; an event of the same source and uid that is there already is
        left out. With a host id they come from that host and may only tell of its own sessions."""
        return await self._file.write(lambda db: _append(db, events, host_id), self._stored)

    def _stored(self, stored: list[StoredEvent]) -> None:
        if stored:
            news, self._news = self._news, asyncio.Event()
            news.set()

    async def search(self, query: SearchEvents, *, after: int = 0, limit: int) -> list[StoredEvent]:
        """The next events that match, beginning beyond seq `after` in the query's direction."""
        sql, values = _where(query, after)
        direction = "DESC" if query.order == "desc" else "ASC"

        def work(db: sqlite3.Connection) -> list[StoredEvent]:
            rows = db.execute(
                f"SELECT seq, body, hash FROM events WHERE {sql} ORDER BY seq {direction} LIMIT ?",  # noqa: S608
                (*values, limit),
            )
            return [_row(row) for row in rows]

        return await self._file.read(work)

    async def last_seq(self) -> int:
        return await self._file.read(lambda db: _head(db)[0])

    def news(self) -> asyncio.Event:
        """Set once anything is stored after this call."""
        return self._news

    async def verify(self) -> AuditVerdict:
        """Walk the whole chain on a connection of its own, so that a long log holds nobody up."""
        async with self._verifying:
            return await asyncio.to_thread(_verify, self._file.path)

    async def session(self, session_id: str) -> SessionRow | None:
        rows = await self._file.read(
            lambda db: db.execute(f"{_SESSIONS} WHERE sid = ?", (session_id,)).fetchall()
        )
        return _session(rows[0]) if rows else None

    async def wait_for_session(self, session_id: str, deadline_s: float) -> SessionRow | None:
        """The session, waiting a little for the event that starts it."""
        try:
            async with asyncio.timeout(deadline_s):
                while True:
                    news = self._news
                    row = await self.session(session_id)
                    if row is not None:
                        return row
                    await news.wait()
        except TimeoutError:
            return None

    async def recorded(self, session_id: str, size: int) -> None:
        """Note that a recording of this size is stored for the session."""
        await self._file.write(
            lambda db: db.execute("UPDATE sessions SET size = ? WHERE sid = ?", (size, session_id)).rowcount
        )

    async def recordings(
        self, since: float, until: float, before: tuple[float, str], limit: int, *, involving: str = ""
    ) -> list[SessionRow]:
        """Sessions with a recording that started in the given time, newest first, and beyond `before`: the
        start and the id of the last one seen, since many may have started at the same moment. With a name,
        only those that this user started or took part in."""
        whose = " AND (user = ? OR EXISTS (SELECT 1 FROM json_each(participants) WHERE value = ?))"
        rows = await self._file.read(
            lambda db: db.execute(
                f"{_SESSIONS} WHERE size >= 0 AND started >= ? AND started < ? AND (started, sid) < (?, ?)"
                f"{whose if involving else ''} ORDER BY started DESC, sid DESC LIMIT ?",
                (since, until or float("inf"), *before, *([involving] * 2 if involving else []), limit),
            ).fetchall()
        )
        return [_session(row) for row in rows]

    async def recorded_before(self, moment: float, limit: int) -> list[SessionRow]:
        """Sessions with a recording that ended before, oldest first; without an end their start counts."""
        rows = await self._file.read(
            lambda db: db.execute(
                f"{_SESSIONS} WHERE size >= 0 AND max(started, ended) < ? ORDER BY started, sid LIMIT ?",
                (moment, limit),
            ).fetchall()
        )
        return [_session(row) for row in rows]

    async def close(self) -> None:
        await self._file.close()


_SESSIONS = (
    "SELECT sid, host_id, user, login, hostname, started, ended, participants, command, size,"  # noqa: S608
    " EXISTS (SELECT 1 FROM events WHERE events.sid = sessions.sid"
    f" AND events.type = '{DB_SESSION_START.event}') FROM sessions"
)


def _session(row: tuple[str, str, str, str, str, float, float, str, str, int, int]) -> SessionRow:
    sid, host_id, user, login, hostname, started, ended, participants, command, size, is_db = row
    people = msgspec.json.decode(participants, type=list[str])
    kind = "db" if is_db else "ssh"
    return SessionRow(sid, host_id, user, login, hostname, started, ended, people, command, size, kind)


def _head(db: sqlite3.Connection) -> tuple[int, str]:
    row = db.execute("SELECT seq, hash FROM head").fetchone()
    return (int(row[0]), str(row[1])) if row else (0, chain.GENESIS)


def _append(db: sqlite3.Connection, events: Sequence[Event], host_id: str) -> list[StoredEvent]:
    seq, previous = _head(db)
    stored: list[StoredEvent] = []
    for event in events:
        known = db.execute(
            "SELECT 1 FROM events WHERE source = ? AND uid = ?", (host_id, event.uid)
        ).fetchone()
        if known:
            continue
        seq += 1
        previous = chain.link(previous, event)
        sid = _text(event, "sid")
        moment = unix_time(event)
        if host_id and sid:
            _tell_session(db, event, sid, host_id, moment)
        db.execute(
            "INSERT INTO events (seq, time, type, user, sid, source, uid, body, hash)"
            " VALUES (?,?,?,?,?,?,?,?,?)",
            (
                seq,
                moment,
                event.event,
                _text(event, "user"),
                sid,
                host_id,
                event.uid,
                to_json(event),
                previous,
            ),
        )
        stored.append(StoredEvent(seq=seq, event=event, hash=previous))
    if stored:
        db.execute(
            "INSERT INTO head VALUES (1, ?, ?)"
            " ON CONFLICT (one) DO UPDATE SET seq = excluded.seq, hash = excluded.hash",
            (seq, previous),
        )
    return stored


def _tell_session(db: sqlite3.Connection, event: Event, sid: str, host_id: str, moment: float) -> None:
    """Claim a session at its start, note its end, and refuse a host that tells of another's (attack A39)."""
    row = db.execute("SELECT host_id FROM sessions WHERE sid = ?", (sid,)).fetchone()
    if row is not None and row[0] != host_id:
        if event.event not in _ONLY_BY_OWNER and _is_relayed_to(db, sid, row[0], host_id):
            return
        raise InputError(
            f"session {sid} belongs to another host", detail=f"told by {host_id}, owned by {row[0]}"
        )
    begins = event.event == SESSION_START.event or event.code == DB_SESSION_START.code
    if begins and row is None:
        command = event.fields.get("initial_command")
        db.execute(
            "INSERT INTO sessions"
            " (sid, host_id, user, login, hostname, started, ended, participants, command)"
            " VALUES (?,?,?,?,?,?,0,?,?)",
            (
                sid,
                host_id,
                _text(event, "user"),
                _text(event, "login") or _text(event, "db_user"),
                _text(event, "db_service") or _text(event, "server_hostname"),
                moment,
                msgspec.json.encode([_text(event, "user")]).decode(),
                " ".join(command) if isinstance(command, list) else str(command or ""),
            ),
        )
    elif event.event in (SESSION_END.event, DB_SESSION_END.event):
        people = event.fields.get("participants")
        db.execute("UPDATE sessions SET ended = ? WHERE sid = ?", (moment, sid))
        if isinstance(people, list) and people:
            db.execute(
                "UPDATE sessions SET participants = ? WHERE sid = ?",
                (msgspec.json.encode(people).decode(), sid),
            )


def _is_relayed_to(db: sqlite3.Connection, sid: str, owner: str, host_id: str) -> bool:
    """Whether the proxy that keeps the record of a session has said that it passes it on to this host."""
    row = db.execute(
        "SELECT body FROM events WHERE sid = ? AND type = ? AND source = ?", (sid, SESSION_START.event, owner)
    ).fetchone()
    return row is not None and _text(from_json(row[0]), RELAYED_TO) == host_id


def _text(event: Event, name: str) -> str:
    value = event.fields.get(name)
    return value if isinstance(value, str) else ""


def _row(row: tuple[int, bytes, str]) -> StoredEvent:
    seq, body, digest = row
    try:
        event = from_json(body)
    except InputError as error:
        # Shown, not hidden: a reader must see that something is wrong there, and verify names it.
        event = Event(
            event=UNKNOWN.event,
            code=UNKNOWN.code,
            time="1970-01-01T00:00:00.000Z",
            uid="",
            cluster_name="",
            fields={"error": f"the stored event cannot be read: {error.message}"},
        )
    return StoredEvent(seq=seq, event=event, hash=digest)


def _where(query: SearchEvents, after: int) -> tuple[str, list[float | str | int]]:
    clauses = ["1"]
    values: list[float | str | int] = []
    if query.since:
        clauses.append("time >= ?")
        values.append(query.since)
    if query.until:
        clauses.append("time < ?")
        values.append(query.until)
    if query.types:
        clauses.append(f"type IN ({','.join('?' * len(query.types))})")
        values += query.types
    if query.user:
        clauses.append("user = ?")
        values.append(query.user)
    if query.session_id:
        clauses.append("sid = ?")
        values.append(query.session_id)
    if after:
        clauses.append("seq < ?" if query.order == "desc" else "seq > ?")
        values.append(after)
    return " AND ".join(clauses), values


def check_query(query: SearchEvents) -> None:
    if not 1 <= query.limit <= limits.SEARCH_LIMIT_MAX:
        raise LimitExceededError(f"a search answers 1 to {limits.SEARCH_LIMIT_MAX} events")
    if len(query.types) > 100:
        raise LimitExceededError("a search may name 100 types")
    if query.follow and query.order == "desc":
        raise InputError("following goes from old to new", hint="leave the order out")
    if not (query.since >= 0 and query.until >= 0):
        raise InputError("times are Unix seconds, 0 for open")


def _verify(path: Path) -> AuditVerdict:
    db = sqlite3.connect(f"file:{path}?mode=ro", uri=True, isolation_level=None)
    try:
        db.execute("BEGIN")
        last, head = _head(db)

        def rows() -> Iterator[StoredEvent]:
            yield from map(_row, db.execute("SELECT seq, body, hash FROM events ORDER BY seq"))

        verdict = chain.verify(rows())
        if verdict.ok and verdict.events != last:
            return AuditVerdict(
                ok=False,
                events=verdict.events,
                first_bad_seq=verdict.events + 1,
                problem=f"event {verdict.events + 1} is missing: {last} were stored",
                head=verdict.head,
            )
        if verdict.ok and last and verdict.head != head:
            return AuditVerdict(
                ok=False,
                events=verdict.events,
                first_bad_seq=last,
                problem="the newest event is not the one that was stored last",
                head=verdict.head,
            )
        return verdict
    except sqlite3.Error as error:
        raise UnavailableError(f"the file {path} is damaged and cannot be read", detail=str(error)) from error
    finally:
        db.close()
