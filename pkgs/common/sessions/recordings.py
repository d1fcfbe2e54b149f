"""Where recordings go: a crash-safe local file uploaded afterwards, or a live stream to the Auth Service.

    node:       log/upload/<id>.part --finish--> <id>.rec --upload--> gone   (damaged: <id>.bad, set aside)
    node-sync:  a bounded queue of frames --upload--> Auth, while the session runs

A `.part` found at start belonged to a process that died: it is what could be saved, and is uploaded too.

Where the cluster encrypts recordings, both are encrypted before they are anywhere but in memory; only the
Auth Service can read them, this host can't.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Callable, Sequence
from pathlib import Path
from typing import Literal

from pkgs.common.api.recordings import UploadRecording
from pkgs.common.errors import AccessError, InputError, NotFoundError, UnavailableError
from pkgs.common.recording.encrypted.reading import LONGEST_OPENING, looks_encrypted
from pkgs.common.recording.encrypted.writing import RecordingCipher
from pkgs.common.recording.ids import is_session_id
from pkgs.common.recording.model import SessionMeta
from pkgs.common.recording.reader import read_items, summarise
from pkgs.common.recording.seal import Seal
from pkgs.common.recording.writer import BytesSink, FileSink, RecordingWriter, Sink
from pkgs.common.rpc.calls import AsyncClient
from pkgs.common.runtime.atomicfile import make_private_dir

_CHUNK = 128 * 1024
_SCAN_S = 5.0
_UPLOADS_AT_ONCE = 4
_UPLOAD_DEADLINE_S = 3600.0
_RETRY_FIRST_S = 2.0
_RETRY_MOST_S = 60.0
_QUEUE = 64
"""Frames that may wait for the Auth Service in node-sync mode before the session does."""
_PART, _DONE, _BAD = ".part", ".rec", ".bad"
_Protect = Callable[[Sink], Sink]
"""What stands between a recording and where it goes."""


class Recording:
    """One open recording."""

    live = False
    """Whether `keep_up` may have to wait."""

    def __init__(self, writer: RecordingWriter, seal: Seal) -> None:
        self.writer = writer
        self._seal = seal

    async def keep_up(self) -> None:
        """Wait while the destination is behind. Raises UnavailableError when it is lost."""

    async def finish(self, now: float, ended: float) -> None:
        """Complete it. Raises UnavailableError."""
        self.writer.finish(now, ended=ended, seal=self._seal)

    def abandon(self, *, discard: bool = False) -> None:
        """Stop recording; what was written stays, unless nothing of it should."""
        with contextlib.suppress(AccessError):
            self.writer.abandon()


class _FileRecording(Recording):
    def __init__(
        self,
        path: Path,
        meta: SessionMeta,
        now: float,
        seal: Seal,
        protect: _Protect,
        wake: Callable[[], None],
    ) -> None:
        super().__init__(RecordingWriter(protect(FileSink(path)), meta, now=now), seal)
        self._path = path
        self._wake = wake

    async def finish(self, now: float, ended: float) -> None:
        # Closing makes the file durable: a disk's time, not the loop's.
        await asyncio.to_thread(self.writer.finish, now, ended=ended, seal=self._seal)
        try:
            self._path.rename(self._path.with_suffix(_DONE))
        except OSError as problem:
            raise UnavailableError(f"the session recording is lost: {problem.strerror}") from None
        self._wake()

    def abandon(self, *, discard: bool = False) -> None:
        super().abandon()
        with contextlib.suppress(OSError):
            if discard:
                self._path.unlink()
            else:
                self._path.rename(self._path.with_suffix(_DONE))
        self._wake()


class _LiveRecording(Recording):
    live = True

    def __init__(
        self, client: AsyncClient, meta: SessionMeta, now: float, seal: Seal, protect: _Protect
    ) -> None:
        # Filled by `writer`, which cannot wait; `keep_up` does, after every write.
        self._queue: asyncio.Queue[bytes | None] = asyncio.Queue()
        self._room = asyncio.Event()
        super().__init__(RecordingWriter(protect(BytesSink(self._queue.put_nowait)), meta, now=now), seal)
        request = UploadRecording(session_id=meta.session_id, live=True)
        self._task = asyncio.create_task(self._upload(client, request), name="recording stream")

    async def keep_up(self) -> None:
        if self._queue.qsize() > _QUEUE:
            self._room.clear()
            room = asyncio.ensure_future(self._room.wait())
            await asyncio.wait({self._task, room}, return_when=asyncio.FIRST_COMPLETED)
            room.cancel()
        self._check()

    async def finish(self, now: float, ended: float) -> None:
        self._check()
        self.writer.finish(now, ended=ended, seal=self._seal)
        self._queue.put_nowait(None)
        try:
            async with asyncio.timeout(_RETRY_MOST_S):
                await asyncio.wait([self._task])
        except TimeoutError:
            self._task.cancel()
            raise UnavailableError("the Auth Service does not take the recording") from None
        self._check()

    def abandon(self, *, discard: bool = False) -> None:
        super().abandon()
        self._task.cancel()

    def _check(self) -> None:
        if self._task.done() and not self._task.cancelled() and (problem := self._task.exception()):
            raise UnavailableError("the recording stream is lost", detail=str(problem))

    async def _upload(self, client: AsyncClient, request: UploadRecording) -> None:
        await client.upload(request, self._chunks())

    async def _chunks(self) -> AsyncIterator[bytes]:
        while (data := await self._queue.get()) is not None:
            yield data
            if self._queue.qsize() <= _QUEUE // 2:
                self._room.set()


class Recorder:
    """Opens recordings in the cluster's mode, and uploads the finished ones."""

    def __init__(
        self,
        folder: Path,
        client: AsyncClient,
        mode: Callable[[], str],
        recipients: Callable[[], Sequence[str] | None],
        seal: Seal,
        monotonic: Callable[[], float],
        log: logging.Logger,
        *,
        by: Literal["node", "proxy"] = "node",
    ) -> None:
        """`recipients` answers whom a new recording is encrypted for; None: it is not. `by`: where sessions
        are recorded, whatever the cluster's mode says."""
        self._folder = folder
        self._client = client
        self._mode = mode
        self._recipients = recipients
        self._seal = seal
        self._monotonic = monotonic
        self._log = log
        self._by = by
        self._wake = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._not_before: dict[str, tuple[float, float]] = {}

    @property
    def mode(self) -> str:
        """As events name it: `off`, or that it is recorded here (`node`, `proxy`), perhaps as a stream
        (`node-sync`, `proxy-sync`)."""
        return self._mode().replace("node", self._by).replace("proxy", self._by)

    def open(self, meta: SessionMeta) -> Recording:
        """Raises UnavailableError."""
        now = self._monotonic()
        protect = self._protection(meta.session_id)
        if self.mode.endswith("-sync"):
            return _LiveRecording(self._client, meta, now, self._seal, protect)
        try:
            make_private_dir(self._folder)  # somebody may have cleared it away
        except OSError as problem:
            raise UnavailableError(f"there is no place for recordings: {problem.strerror}") from None
        path = self._folder / f"{meta.session_id}{_PART}"
        return _FileRecording(path, meta, now, self._seal, protect, self._wake.set)

    def _protection(self, session_id: str) -> _Protect:
        """Made once, before there is a file: where there is no key there is no recording in the clear."""
        recipients = self._recipients()
        if recipients is None:
            return lambda sink: sink
        try:
            return RecordingCipher(session_id, recipients).around
        except InputError as problem:
            raise UnavailableError(
                f"the session recording cannot be encrypted: {problem.message}",
                hint="`tctl recordings encryption status` shows the keys",
            ) from None

    def start(self) -> None:
        """Take up what an earlier process left, and begin to upload."""
        make_private_dir(self._folder)
        for left in self._folder.glob(f"*{_PART}"):
            left.rename(left.with_suffix(_DONE))
        self._task = asyncio.create_task(self._run(), name="recording uploads")

    async def close(self) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def _run(self) -> None:
        while True:
            self._wake.clear()
            await self._upload_all()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_SCAN_S if self._not_before else None):
                    await self._wake.wait()

    async def _upload_all(self) -> None:
        now = self._monotonic()
        found = [
            path
            for path in sorted(self._folder.glob(f"*{_DONE}"))
            if self._not_before.get(path.name, (0.0, 0.0))[0] <= now
        ]
        slots = asyncio.Semaphore(_UPLOADS_AT_ONCE)

        async def one(path: Path) -> None:
            async with slots:
                await self._upload(path)

        await asyncio.gather(*(one(path) for path in found))

    async def _upload(self, path: Path) -> None:
        try:
            if not is_session_id(path.stem) or not await asyncio.to_thread(_is_whole, path):
                self._set_aside(path, "it is not a readable recording")
                return
            await self._client.upload(
                UploadRecording(session_id=path.stem), _file_chunks(path), deadline_s=_UPLOAD_DEADLINE_S
            )
        except (InputError, NotFoundError) as problem:
            self._set_aside(path, problem.message)
        except (AccessError, OSError) as problem:
            _, delay = self._not_before.get(path.name, (0.0, _RETRY_FIRST_S / 2))
            delay = min(delay * 2, _RETRY_MOST_S)
            self._not_before[path.name] = (self._monotonic() + delay, delay)
            self._log.info("a recording is not uploaded yet: %s", problem, extra={"sid": path.stem})
        else:
            # Only now that the Auth Service has confirmed it.
            path.unlink(missing_ok=True)
            self._not_before.pop(path.name, None)

    def _set_aside(self, path: Path, why: str) -> None:
        self._log.error("a recording is set aside: %s", why, extra={"file": path.name})
        with contextlib.suppress(OSError):
            path.rename(path.with_suffix(_BAD))
        self._not_before.pop(path.name, None)


def _is_whole(path: Path) -> bool:
    """Whether at least its first frame reads, or is there to be read by who can; a cut end is no reason to
    lose the rest."""
    try:
        with path.open("rb") as source:
            if looks_encrypted(source.read(LONGEST_OPENING)):
                return True
            source.seek(0)
            return summarise(read_items(source)).meta is not None
    except AccessError:
        return False


async def _file_chunks(path: Path) -> AsyncIterator[bytes]:
    with path.open("rb") as source:
        while chunk := source.read(_CHUNK):
            yield chunk
