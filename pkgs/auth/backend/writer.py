"""One SQLite file, one writing thread: jobs that wait together are committed together.

Durability costs one fsync per commit, so everything that queued up while the last fsync ran shares the
next one. A job sees the effects of the jobs before it. Used for the cluster's state and for the audit log.
"""

from __future__ import annotations

import asyncio
import logging
import queue
import sqlite3
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Generic, TypeVar

from pkgs.auth.backend.limits import BUSY_TIMEOUT_S, GROUP_COMMIT
from pkgs.common.errors import AccessError, UnavailableError

T = TypeVar("T")
_log = logging.getLogger(__name__)
_DAMAGED = {sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB}


def storage_error(path: Path, error: sqlite3.Error) -> UnavailableError:
    """What to tell a caller when SQLite failed; the file is named where an administrator reads it."""
    primary = getattr(error, "sqlite_errorcode", 0) & 0xFF
    if primary in _DAMAGED:
        return UnavailableError(
            f"the file {path} is damaged and cannot be read",
            detail=str(error),
            hint="restore it from a backup; nothing was changed",
        )
    if primary == sqlite3.SQLITE_FULL:
        return UnavailableError(
            "the Auth Service's disk is full, nothing was stored", detail=f"{path}: {error}"
        )
    return UnavailableError(
        "the Auth Service cannot use its storage, nothing was stored", detail=f"{path}: {error}"
    )


class _Job(Generic[T]):
    __slots__ = ("error", "future", "on_commit", "result", "work")

    def __init__(
        self,
        work: Callable[[sqlite3.Connection], T],
        on_commit: Callable[[T], None] | None,
        future: asyncio.Future[T],
    ) -> None:
        self.work = work
        self.on_commit = on_commit
        self.future = future
        self.result: T | None = None
        self.error: BaseException | None = None


class SqliteFile:
    """A database file with one writer and one reader connection, each in its own thread."""

    def __init__(self, path: Path, schema: str, *, synchronous: str = "FULL", journal: str = "WAL") -> None:
        self.path = path
        self._jobs: queue.SimpleQueue[_Job[Any] | None] = queue.SimpleQueue()
        try:
            self._write = self._connect(synchronous, journal)
            self._write.executescript(schema)
            (verdict,) = self._write.execute("PRAGMA quick_check(1)").fetchone()
            if verdict != "ok":
                self._write.close()
                raise UnavailableError(
                    f"the file {path} is damaged: {verdict}", hint="restore it from a backup"
                )
            self._read = self._connect(synchronous, journal)
            self._read.execute("PRAGMA query_only=ON")
        except sqlite3.Error as error:
            raise storage_error(path, error) from error
        self._reader = ThreadPoolExecutor(1, thread_name_prefix=f"read-{path.name}")
        self._loop = asyncio.get_running_loop()
        self._thread = threading.Thread(target=self._run, name=f"write-{path.name}", daemon=True)
        self._thread.start()

    def _connect(self, synchronous: str, journal: str) -> sqlite3.Connection:
        connection = sqlite3.connect(
            self.path, isolation_level=None, check_same_thread=False, timeout=BUSY_TIMEOUT_S
        )
        try:
            connection.execute(f"PRAGMA journal_mode={journal}")
            connection.execute(f"PRAGMA synchronous={synchronous}")
            connection.execute("PRAGMA temp_store=MEMORY")
            connection.execute("PRAGMA cache_size=-65536")
            connection.execute("PRAGMA wal_autocheckpoint=2000")
        except sqlite3.Error:
            connection.close()
            raise
        return connection

    async def write(
        self, work: Callable[[sqlite3.Connection], T], on_commit: Callable[[T], None] | None = None
    ) -> T:
        """Run `work` inside a transaction; returns when it is durable. `on_commit` is called on the event
        loop, in commit order, before anybody is told. An AccessError raised by `work` undoes it alone."""
        future: asyncio.Future[T] = self._loop.create_future()
        self._jobs.put(_Job(work, on_commit, future))
        # A caller that gives up must not make others believe the write was lost: it goes on by itself.
        return await asyncio.shield(future)

    async def read(self, work: Callable[[sqlite3.Connection], T]) -> T:
        """Run a query beside the writer; sees everything acknowledged before the call."""

        def guarded() -> T:
            try:
                return work(self._read)
            except sqlite3.Error as error:
                raise storage_error(self.path, error) from error

        return await self._loop.run_in_executor(self._reader, guarded)

    async def close(self) -> None:
        """Finish the writes that are queued, then let go of the file."""
        self._jobs.put(None)
        await asyncio.to_thread(self._thread.join)
        self._reader.shutdown()
        self._read.close()
        self._write.close()

    def _run(self) -> None:
        stopping = False
        while not stopping:
            batch: list[_Job[Any]] = []
            job = self._jobs.get()
            while job is not None:
                batch.append(job)
                if len(batch) >= GROUP_COMMIT:
                    break
                try:
                    job = self._jobs.get_nowait()
                except queue.Empty:
                    break
            else:
                stopping = True
            if batch:
                self._commit(batch)
                self._loop.call_soon_threadsafe(_deliver, batch)

    def _commit(self, batch: list[_Job[Any]]) -> None:
        db = self._write
        try:
            db.execute("BEGIN IMMEDIATE")
            for job in batch:
                db.execute("SAVEPOINT job")
                try:
                    job.result = job.work(db)
                except sqlite3.Error:
                    raise
                except Exception as error:
                    job.error = error
                    db.execute("ROLLBACK TO job")
                db.execute("RELEASE job")
            db.execute("COMMIT")
        except sqlite3.Error as error:
            if db.in_transaction:
                db.execute("ROLLBACK")
            failure = storage_error(self.path, error)
            for job in batch:
                if not isinstance(job.error, AccessError):
                    job.error = failure


def _deliver(batch: list[_Job[Any]]) -> None:
    for job in batch:
        if job.error is None and job.on_commit is not None:
            try:
                job.on_commit(job.result)
            except Exception:
                # What is stored is stored: the writer must hear that, whoever failed to listen.
                _log.exception("a subscriber failed to take a change")
    for job in batch:
        if job.future.done():
            continue
        if job.error is not None:
            job.future.set_exception(job.error)
            job.future.exception()  # Mark as seen: the caller may have gone.
        else:
            job.future.set_result(job.result)
