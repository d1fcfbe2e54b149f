"""Session recordings: hosts upload, participants and those entitled list and play.

A finished recording is written once and never replaced. What arrived of a live one that was cut stays
readable; the host may still send the whole file later.
"""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import AsyncIterator
from pathlib import Path
from typing import BinaryIO

from pkgs.auth import limits
from pkgs.auth.audit.journal import Journal
from pkgs.auth.audit.lockedlines import Lock
from pkgs.auth.audit.log import NOT_RECORDED, AuditLog, SessionRow
from pkgs.auth.audit.screens import Reading, Screens
from pkgs.auth.audit.storing import Storing, encrypt_file
from pkgs.auth.chunks import chunked
from pkgs.auth.encryption.keyring import Keyring
from pkgs.auth.permissions import Permissions
from pkgs.common.access.types import UseRule
from pkgs.common.api.login import Done
from pkgs.common.api.recordings import (
    DownloadRecording,
    ListRecordings,
    RecordingChunk,
    RecordingInfo,
    RecordingList,
    UploadRecording,
)
from pkgs.common.errors import (
    ConflictError,
    DeniedError,
    InputError,
    LimitExceededError,
    NotFoundError,
    TrustError,
    UnavailableError,
)
from pkgs.common.events.codes import SESSION_RECORDING_ACCESS, SESSION_UPLOAD
from pkgs.common.recording.encrypted.reading import Decryptor
from pkgs.common.recording.ids import is_session_id, require_session_id
from pkgs.common.recording.model import SessionMeta
from pkgs.common.recording.showing.lines import ShownLine
from pkgs.common.rpc.calls import Caller

_log = logging.getLogger(__name__)
_SUFFIXES = ("rec", "stream", "live")


class RecordingHandlers:
    def __init__(
        self,
        directory: Path,
        log: AuditLog,
        permissions: Permissions,
        journal: Journal,
        screens: Screens,
        keyring: Keyring,
    ) -> None:
        self._directory = directory
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._log = log
        self._permissions = permissions
        self._journal = journal
        self._screens = screens
        self._keyring = keyring
        self._busy: dict[str, str] = {}
        """Sessions whose recording is arriving, and the hosts that send them."""

    def _path(self, session_id: str, suffix: str) -> Path:
        """Only for ids that passed `require_session_id` (attack A60)."""
        return self._directory / f"{session_id}.{suffix}"

    async def upload(self, caller: Caller, request: UploadRecording, chunks: AsyncIterator[bytes]) -> Done:
        identity = caller.host()
        sid = require_session_id(request.session_id)
        row = await self._log.wait_for_session(sid, limits.RECORDING_START_WAIT_S)
        if row is None:
            raise UnavailableError("the start of this session is not in the audit log yet", hint="try again")
        if row.host_id != identity.name:
            raise DeniedError(
                "the session belongs to another host", detail=f"{identity.name} sent {sid} of {row.host_id}"
            )
        final = self._path(sid, "rec")
        if sid in self._busy:
            raise ConflictError("this recording is being uploaded already")
        of_host = sum(host == identity.name for host in self._busy.values())
        if len(self._busy) >= limits.MAX_UPLOADS or of_host >= limits.MAX_UPLOADS_PER_HOST:
            raise LimitExceededError("too many uploads at the same moment", hint="try again later")
        self._busy[sid] = identity.name
        try:
            if not final.exists():
                await self._receive(sid, identity.name, request.live, chunks)
            elif row.size != (size := final.stat().st_size):
                # A process before this one died when the file was there and the log did not know of it.
                await self._note(sid, size)
        finally:
            del self._busy[sid]
        return Done()

    async def _receive(self, sid: str, host_id: str, live: bool, chunks: AsyncIterator[bytes]) -> None:
        """Take the bytes in; only a stream that ended well becomes the recording."""
        part = self._path(sid, "stream" if live else "part")
        size, complete = 0, False
        decryptor = Decryptor(self._keyring.unwrap, sid)
        reading = Reading(decryptor)
        storing = Storing(decryptor, sid, self._keyring.recipients())
        try:
            # Opened here and not in a thread: a cancelled wait for one would lose the open file.
            with _create(part) as file:
                async for chunk in chunks:
                    if not size:
                        await self._forget(sid)
                    lines = await asyncio.to_thread(reading.feed, chunk)
                    _check_meta(reading.meta, sid, host_id)
                    if live and decryptor.problem is not None and decryptor.key is None:
                        raise decryptor.problem  # before the session has gone on for hours
                    stored = await asyncio.to_thread(storing.form, chunk)
                    size += len(stored)
                    if size > limits.MAX_RECORDING_BYTES:
                        raise LimitExceededError(f"a recording may be {limits.MAX_RECORDING_BYTES:,} bytes")
                    await asyncio.to_thread(_write, file, stored, live)
                    await self._index(sid, lines, storing.lock)
                lines = await asyncio.to_thread(reading.finish)
                rest = storing.form(b"")
                size += len(rest)
                await asyncio.to_thread(_write, file, rest, live)
                await self._index(sid, lines, storing.lock)
                if await self._encrypt(sid, part):
                    size = part.stat().st_size
                await asyncio.to_thread(_finish, file, part, self._path(sid, "rec"))
            complete = True
        except InputError:
            part.unlink(missing_ok=True)  # nothing of another session's is kept under this name
            raise
        except TrustError as problem:
            # What nobody here can read is no recording. The host keeps it, set aside.
            part.unlink(missing_ok=True)
            raise InputError(problem.message, detail=problem.detail, hint=problem.hint) from None
        except OSError as error:
            raise UnavailableError("the recording cannot be stored", detail=f"{part}: {error}") from error
        finally:
            if not complete:
                await self._keep_what_came(sid, part)
        await self._note(sid, size)

    async def _forget(self, sid: str) -> None:
        """Begin the index of a recording anew."""
        try:
            await self._screens.forget(sid)
        except UnavailableError as problem:
            _log.error("a recording is not indexed: %s", problem, extra={"sid": sid})

    async def _index(self, sid: str, lines: list[ShownLine], lock: Lock | None) -> None:
        """A recording is worth more than its index: what cannot be indexed is still recorded."""
        try:
            if lines:
                await self._screens.add(sid, lines, lock)
        except UnavailableError as problem:
            _log.error("a recording is not indexed: %s", problem, extra={"sid": sid})

    async def discard(self, sid: str) -> None:
        """Delete a recording and what is indexed of it; the session stays in the audit log. Not while it is
        arriving (ConflictError)."""
        if sid in self._busy:
            raise ConflictError("this recording is being uploaded")
        for suffix in _SUFFIXES:
            await asyncio.to_thread(self._path(sid, suffix).unlink, missing_ok=True)
        await self._screens.forget(sid)
        await self._log.recorded(sid, NOT_RECORDED)

    async def _note(self, sid: str, size: int) -> None:
        """The whole recording is stored: whatever was kept of it before is of no use any more."""
        self._path(sid, "live").unlink(missing_ok=True)
        await self._log.recorded(sid, size)
        await self._journal.write(
            self._journal.event(SESSION_UPLOAD, sid=sid, session_url=f"recordings/{sid}", size=size)
        )

    async def _keep_what_came(self, sid: str, part: Path) -> None:
        """A live stream that was cut stays, unless an earlier one holds more; a cut copy is sent again."""
        kept = self._path(sid, "live")
        if part.suffix == ".stream" and part.exists():
            try:
                await self._encrypt(sid, part)
            except OSError as error:
                _log.error("a cut recording stays in the clear: %s", error, extra={"sid": sid})
        size = part.stat().st_size if part.exists() else 0
        if part.suffix != ".stream" or not size or (kept.exists() and kept.stat().st_size >= size):
            part.unlink(missing_ok=True)
            return
        part.replace(kept)
        await self._log.recorded(sid, size)

    async def _encrypt(self, sid: str, part: Path) -> bool:
        """Whether what came in the clear had to be encrypted: its stream began before recordings were."""
        recipients = self._keyring.recipients()
        if recipients is None:
            return False
        arriving = Decryptor(self._keyring.unwrap, sid)
        storing = Storing(arriving, sid, recipients)
        return await asyncio.to_thread(encrypt_file, part, self._path(sid, "new"), arriving, storing)

    async def recover(self) -> None:
        """After a crash: keep the live streams that were cut by it, drop half copies. Call once at start."""
        for new in self._directory.glob("*.new"):
            new.unlink(missing_ok=True)
        for part in [*self._directory.glob("*.stream"), *self._directory.glob("*.part")]:
            if is_session_id(part.stem):
                await self._keep_what_came(part.stem, part)

    def may_play(self, caller: Caller, row: SessionRow) -> bool:
        """Whether the caller may see this session's recording."""
        identity = caller.identity
        target = about(row, "read")
        if identity is not None and (identity.name == row.user or identity.name in row.participants):
            # One's own needs no rule, but a deny is one.
            return not identity.system_roles and not self._permissions.forbidden(caller, target)
        return bool(self._permissions.decide(caller, target))

    async def download(self, caller: Caller, request: DownloadRecording) -> AsyncIterator[RecordingChunk]:
        sid = require_session_id(request.session_id)
        row = await self._log.session(sid)
        if row is None or not self.may_play(caller, row):
            # Not allowed and not there are told alike.
            raise NotFoundError(f"there is no recording {sid}", hint="`tsh recordings ls` lists yours")
        with self._open(sid) as file:
            await self._journal.write(
                self._journal.event(
                    SESSION_RECORDING_ACCESS,
                    sid=sid,
                    user=self._journal.actor(caller),
                    session_type=row.kind,
                )
            )
            # Decrypted here, for who may play it: the private key stays, and what leaves is the recording.
            decryptor = Decryptor(self._keyring.unwrap, sid)
            while data := await asyncio.to_thread(file.read, limits.RECORDING_CHUNK):
                if clear := await asyncio.to_thread(decryptor.feed, data):
                    yield RecordingChunk(clear)
            if rest := _end_of(decryptor):
                yield RecordingChunk(rest)

    def _open(self, sid: str) -> BinaryIO:
        for suffix in _SUFFIXES:
            try:
                return self._path(sid, suffix).open("rb")
            except FileNotFoundError:
                continue
        raise NotFoundError(f"there is no recording {sid}", hint="it may still be on its host")

    async def list(self, caller: Caller, request: ListRecordings) -> AsyncIterator[RecordingList]:
        if not 1 <= request.limit <= limits.RECORDING_LIST_MAX:
            raise LimitExceededError(f"a listing answers 1 to {limits.RECORDING_LIST_MAX} recordings")
        # Who may not play everybody's is not led through everybody's.
        identity = caller.identity
        everybody = UseRule(kind="session", verb="read", any_object=True)
        mine = "" if identity is None or self._permissions.decide(caller, everybody) else identity.name
        before, left = (float("inf"), ""), request.limit
        while left > 0:
            rows = await self._log.recordings(
                request.since, request.until, before, limits.SEARCH_PAGE, involving=mine
            )
            shown = [info_of(row) for row in rows if self.may_play(caller, row)][:left]
            for part in chunked(shown):
                yield RecordingList(part)
            left -= len(shown)
            if len(rows) < limits.SEARCH_PAGE:
                return
            before = (rows[-1].started, rows[-1].session_id)


def _end_of(decryptor: Decryptor) -> bytes:
    try:
        return decryptor.finish()
    except TrustError as problem:
        raise UnavailableError(problem.message, detail=problem.detail, hint=problem.hint) from None


def _check_meta(meta: SessionMeta | None, sid: str, host_id: str) -> None:
    """A recording that says it is another session's, or another host's, is not taken in (attack A39)."""
    if meta is not None and (meta.session_id != sid or meta.host_id != host_id):
        raise InputError("the recording is of another session", detail=f"{meta.session_id} of {meta.host_id}")


def about(row: SessionRow, verb: str) -> UseRule:
    """Doing that with the recording of a session."""
    return UseRule(
        kind="session",
        verb=verb,
        owner=row.user,
        participants=tuple(row.participants),
        login=row.login,
        server_hostname=row.hostname,
    )


def info_of(row: SessionRow) -> RecordingInfo:
    return RecordingInfo(
        session_id=row.session_id,
        kind=row.kind,
        participants=row.participants,
        hostname=row.hostname,
        login=row.login,
        started=row.started,
        ended=row.ended,
        size=row.size,
        command=row.command,
    )


def _create(path: Path) -> BinaryIO:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    return os.fdopen(descriptor, "wb", buffering=0)


def _write(file: BinaryIO, chunk: bytes, durable: bool) -> None:
    view = memoryview(chunk)
    while view:
        view = view[file.write(view) :]
    if durable:
        os.fdatasync(file.fileno())


def _finish(file: BinaryIO, part: Path, final: Path) -> None:
    os.fsync(file.fileno())
    part.replace(final)
    directory = os.open(final.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)
