"""Which sessions are open, on disk: those that a killed service leaves are ended in the audit by the next.

    begin -> <id>.json, the event of its end --end--> gone
                                             --killed, started again--> emitted, gone

The event keeps its uid, so that one that was sent just before the end is not there twice. Not forced to the
disk: what must be survived is the process's end; after a power cut the last seconds may be missing.
"""

from __future__ import annotations

import contextlib
import logging
import os
from collections.abc import Callable
from pathlib import Path

import msgspec

from pkgs.common.errors import AccessError
from pkgs.common.events.format import rfc3339
from pkgs.common.events.types import Emitter, Event
from pkgs.common.runtime.atomicfile import make_private_dir

_SUFFIX = ".json"
_FLAGS = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC | os.O_NOFOLLOW


class Unfinished:
    """The ends of open sessions, kept in one folder."""

    def __init__(self, folder: Path, emitter: Emitter, now: Callable[[], float], log: logging.Logger) -> None:
        self._folder = folder
        self._emitter = emitter
        self._now = now
        self._log = log

    async def start(self) -> None:
        """End the sessions of an earlier process."""
        make_private_dir(self._folder)
        for path in sorted(self._folder.glob(f"*{_SUFFIX}")):
            try:
                event = msgspec.json.decode(path.read_bytes(), type=Event)
            except (OSError, msgspec.DecodeError) as problem:
                self._log.warning("a session's end is not known: %s", problem, extra={"file": path.name})
                path.unlink(missing_ok=True)
                continue
            fields = {**event.fields, "error": "the service ended before the session did"}
            try:
                await self._emitter.emit(
                    msgspec.structs.replace(event, time=rfc3339(self._now()), fields=fields)
                )
            except AccessError as problem:
                self._log.error("the end of a session is not audited yet: %s", problem)
                continue
            path.unlink(missing_ok=True)

    def keep(self, session_id: str, end: Event) -> None:
        """This session is open; `end` is what to say of it should nobody else."""
        try:
            with os.fdopen(os.open(self._path(session_id), _FLAGS, 0o600), "wb") as file:
                file.write(msgspec.json.encode(end))
        except OSError as problem:
            self._log.warning("an open session is not noted: %s", problem, extra={"sid": session_id})

    def forget(self, session_id: str) -> None:
        """Its end is in the audit."""
        with contextlib.suppress(OSError):
            self._path(session_id).unlink()

    def _path(self, session_id: str) -> Path:
        return self._folder / f"{session_id}{_SUFFIX}"
