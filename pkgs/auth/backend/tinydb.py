"""The readable-file backend for tiny clusters: TinyDB over a storage class that survives a crash.

TinyDB's own JSON storage rewrites the file in place; a crash in between leaves one that won't parse. Ours
writes a temporary file, fsyncs it, keeps the old one as a backup and renames. Reads come from memory.
"""

from __future__ import annotations

import asyncio
import base64
import bisect
import logging
import os
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import msgspec
from tinydb import TinyDB
from tinydb.storages import Storage
from tinydb.table import Document, Table

from pkgs.auth.backend.fanout import Change, Item
from pkgs.auth.backend.interface import Backend, Delete, Operation, check_commit, check_condition, checksum
from pkgs.auth.backend.limits import RANGE_PAGE, TINYDB_COMFORTABLE
from pkgs.auth.backend.lock import FileLock
from pkgs.common.errors import AccessError, UnavailableError

_log = logging.getLogger(__name__)
_ITEMS = "items"
_META = "meta"


class AtomicStorage(Storage):
    """A JSON file that is always whole: the state before or after a write, never in between."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.backup = path.with_suffix(".bak")
        self._data: dict[str, Any] | None = None
        self._deferred = False

    def read(self) -> dict[str, Any] | None:
        if self._data is None:
            self._data = self._load()
        return self._data or None

    def _load(self) -> dict[str, Any]:
        try:
            raw = self.path.read_bytes()
        except FileNotFoundError:
            if self.backup.exists():
                raise UnavailableError(
                    f"the file {self.path} is missing, but its backup {self.backup} exists",
                    hint="copy the backup to its place, or remove it to start with an empty cluster",
                ) from None
            return {}
        except OSError as error:
            raise UnavailableError(f"cannot read the file {self.path}: {error.strerror}") from error
        try:
            return msgspec.json.decode(raw, type=dict[str, Any])
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise UnavailableError(
                f"the file {self.path} is damaged: {error}", hint=f"the state before it is in {self.backup}"
            ) from error

    def write(self, data: dict[str, dict[str, Any]]) -> None:
        self._data = data
        if not self._deferred:
            self.flush()

    def defer(self) -> None:
        """Keep the following writes in memory until `flush`."""
        self._deferred = True

    def flush(self) -> None:
        """Make what is in memory durable as one step."""
        self._deferred = False
        temporary = self.path.with_suffix(".tmp")
        try:
            with open(temporary, "wb", opener=_private) as file:
                file.write(msgspec.json.format(msgspec.json.encode(self._data or {}), indent=1))
                file.flush()
                os.fsync(file.fileno())
            if self.path.exists():
                self.backup.unlink(missing_ok=True)
                os.link(self.path, self.backup)
            temporary.replace(self.path)
            directory = os.open(self.path.parent, os.O_RDONLY | os.O_DIRECTORY)
            try:
                os.fsync(directory)
            finally:
                os.close(directory)
        except OSError as error:
            temporary.unlink(missing_ok=True)
            raise UnavailableError(
                "the Auth Service cannot write its storage, nothing was stored",
                detail=f"{self.path}: {error}",
            ) from error

    def forget(self) -> None:
        """Drop what is in memory: the next read takes the file."""
        self._deferred = False
        self._data = None


def _private(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)


class TinyDbBackend(Backend):
    """State in `<directory>/state.json`; one process at a time."""

    def __init__(self, directory: Path, *, clock: Callable[[], float] = time.time) -> None:
        super().__init__(clock)
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._lock = FileLock(directory / "lock")
        self._storage = AtomicStorage(directory / "state.json")
        try:
            self._db = TinyDB(storage=lambda: self._storage)
            self._load()
        except BaseException:
            self._lock.release()
            raise
        self._writer = ThreadPoolExecutor(1, thread_name_prefix="tinydb")
        self._turn = asyncio.Lock()
        if len(self._keys) > TINYDB_COMFORTABLE:
            _log.warning("%d objects in a TinyDB file: every write rewrites it, use sqlite", len(self._keys))

    def _load(self) -> None:
        self._items: dict[str, Item] = {}
        self._ids: dict[str, int] = {}
        self._revision = 0
        for document in self._db.table(_META).all():
            self._revision = int(document["revision"])
        for document in self._db.table(_ITEMS).all():
            item = self._item(document)
            self._items[item.key] = item
            self._ids[item.key] = document.doc_id
        self._next_id = max(self._ids.values(), default=0) + 1
        self._keys = sorted(self._items)

    def _item(self, document: Document) -> Item:
        try:
            key, revision, expires = document["key"], document["revision"], document["expires"]
            text = document.get("value")
            value = text.encode() if text is not None else base64.b64decode(document["base64"])
            if document["sum"] == checksum(key, value):
                return Item(key, value, revision, expires)
        except (KeyError, ValueError, TypeError, AttributeError):
            pass
        raise UnavailableError(
            f"the file {self._storage.path} is damaged: object {document.doc_id} is not what was written",
            hint=f"the state before the last write is in {self._storage.backup}",
        )

    async def commit(self, operations: Sequence[Operation]) -> int:
        check_commit(operations)
        return await asyncio.shield(asyncio.ensure_future(self._commit(operations)))

    async def _commit(self, operations: Sequence[Operation]) -> int:
        async with self._turn:
            now = self.clock()
            seen: dict[str, int | None] = {}
            for op in operations:
                current = seen[op.key] if op.key in seen else self._current(op.key, now)
                check_condition(op, current)
                seen[op.key] = None if isinstance(op, Delete) else self._revision + 1
            changes = [_change(op, self._revision + 1) for op in operations]
            await self._apply(changes)
            return changes[0].revision

    def _current(self, key: str, now: float) -> int | None:
        found = self._items.get(key)
        return None if found is None or _expired(found, now) else found.revision

    async def _apply(self, changes: list[Change]) -> None:
        loop = asyncio.get_running_loop()
        try:
            await loop.run_in_executor(self._writer, self._write, changes)
        except BaseException:
            self._storage.forget()
            self._db = TinyDB(storage=lambda: self._storage)
            self._load()
            raise
        self._revision = changes[0].revision
        for change in changes:
            known = change.key in self._items
            if change.item is not None:
                if not known:
                    bisect.insort(self._keys, change.key)
                self._items[change.key] = change.item
            elif known:
                del self._items[change.key]
                self._keys.pop(bisect.bisect_left(self._keys, change.key))
        self._fanout.publish(changes)

    def _write(self, changes: list[Change]) -> None:
        """In the writer's thread; what readers see is changed only after it returned."""
        final = {change.key: change for change in changes}
        removed: list[int] = []
        self._storage.defer()
        try:
            table: Table = self._db.table(_ITEMS)
            for key, change in final.items():
                if change.item is None:
                    removed += [self._ids.pop(key)] if key in self._ids else []
                    continue
                if key not in self._ids:
                    self._ids[key] = self._next_id
                    self._next_id += 1
                table.upsert(Document(_document(change.item), self._ids[key]))
            if removed:
                table.remove(doc_ids=removed)
            self._db.table(_META).upsert(Document({"revision": changes[0].revision}, 1))
            self._storage.flush()
        except AccessError:
            raise
        except OSError as error:
            raise UnavailableError("the Auth Service cannot write its storage", detail=str(error)) from error

    async def get(self, key: str) -> Item | None:
        found = self._items.get(key)
        return found if found is not None and not _expired(found, self.clock()) else None

    async def range(self, prefix: str, *, after: str = "", limit: int = RANGE_PAGE) -> list[Item]:
        now = self.clock()
        start = max(bisect.bisect_left(self._keys, prefix), bisect.bisect_right(self._keys, after))
        found: list[Item] = []
        for key in self._keys[start:]:
            if not key.startswith(prefix) or len(found) >= limit:
                break
            item = self._items[key]
            if not _expired(item, now):
                found.append(item)
        return found

    async def sweep(self) -> int:
        async with self._turn:
            now = self.clock()
            gone = [key for key, item in self._items.items() if _expired(item, now)]
            if gone:
                await self._apply([Change(key, self._revision + 1) for key in gone])
            return len(gone)

    async def close(self) -> None:
        async with self._turn:
            self._writer.shutdown()
            self._db.close()
            self._lock.release()


def _expired(item: Item, now: float) -> bool:
    return item.expires is not None and item.expires <= now


def _change(op: Operation, revision: int) -> Change:
    if isinstance(op, Delete):
        return Change(op.key, revision)
    return Change(op.key, revision, Item(op.key, op.value, revision, op.expires))


def _document(item: Item) -> dict[str, Any]:
    document: dict[str, Any] = {
        "key": item.key,
        "revision": item.revision,
        "expires": item.expires,
        "sum": checksum(item.key, item.value),
    }
    try:
        document["value"] = item.value.decode()
    except UnicodeDecodeError:
        document["base64"] = base64.b64encode(item.value).decode()
    return document
