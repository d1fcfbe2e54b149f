"""Which users are active, on disk: those that a killed service leaves are deactivated by the next.

before a user is activated -> <digest>.json --deactivated--> gone
"""

from __future__ import annotations

import hashlib
import logging
from pathlib import Path

import msgspec

from pkgs.agents.db.users import limits
from pkgs.common.errors import UnavailableError
from pkgs.common.events.types import FieldValue
from pkgs.common.resources.kinds import Database
from pkgs.common.runtime.atomicfile import make_private_dir, write_atomic


class Entry(msgspec.Struct, frozen=True, kw_only=True):
    """A user that may be active at the server."""

    database: str
    user: str
    drop: bool
    """At the end, rather than lock it."""
    served: Database | None = None
    """As it was then: it may be served no more when the user has to go."""
    fields: dict[str, FieldValue]
    """Of the audit event of its end: those of the session that made it active."""


class Journal:
    def __init__(self, folder: Path, log: logging.Logger) -> None:
        self._folder = folder
        self._log = log

    def open(self) -> list[Entry]:
        """What an earlier process left."""
        make_private_dir(self._folder)
        found: list[Entry] = []
        for path in sorted(self._folder.glob("*.json")):
            try:
                if path.stat().st_size > limits.JOURNAL_FILE_MAX:
                    raise ValueError("it is too long")
                found.append(msgspec.json.decode(path.read_bytes(), type=Entry))
            except (OSError, ValueError) as problem:
                self._log.error("a user that was active is not known: %s", problem, extra={"file": path.name})
        return found

    def keep(self, entry: Entry) -> None:
        """On the disk when this returns. Raises UnavailableError: then nobody would clean up after it."""
        raw = msgspec.json.encode(entry)
        if len(raw) > limits.JOURNAL_FILE_MAX:
            # Bundles of authorities may be that long; without them it can be read again.
            raw = msgspec.json.encode(msgspec.structs.replace(entry, served=None))
        try:
            write_atomic(self._path(entry.database, entry.user), raw)
        except OSError as problem:
            raise UnavailableError(
                "the agent cannot note on its disk which database users it makes",
                detail=str(problem),
                hint="check that its data directory has room and is writable",
            ) from problem

    def forget(self, entry: Entry) -> None:
        try:
            self._path(entry.database, entry.user).unlink(missing_ok=True)
        except OSError as problem:
            self._log.error("a user's note is not removed: %s", problem, extra={"user": entry.user})

    def _path(self, database: str, user: str) -> Path:
        """Names of users may hold anything, so they make no file names."""
        digest = hashlib.sha256(msgspec.json.encode([database, user])).hexdigest()
        return self._folder / f"{digest}.json"
