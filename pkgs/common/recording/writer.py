"""Writing a recording as the session happens.

Memory is bounded by one frame. What `flush` or a full buffer wrote is safe from a crash of the process
(and of the machine, with `fsync`). The caller owns time: it passes `now` and calls `flush` around `due_at`.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

import msgspec

from pkgs.common.errors import UnavailableError
from pkgs.common.recording import frame, limits
from pkgs.common.recording.frame import FrameType
from pkgs.common.recording.ids import require_session_id
from pkgs.common.recording.model import ExecResult, Footer, Mark, Output, Resize, SessionMeta, TimedEvent
from pkgs.common.recording.seal import Seal, message

_ENCODER = msgspec.msgpack.Encoder()


class Sink(Protocol):
    """Where whole frames go: all of one or none of it."""

    def write(self, data: bytes) -> None:
        """Raises UnavailableError when it can't; nothing of `data` is then kept."""
        ...

    def close(self) -> None: ...


class FileSink:
    """A new file, private from its first byte; after a failed write it ends at the last whole frame."""

    def __init__(self, path: Path, *, fsync: bool = False) -> None:
        self.path = path
        self._fsync = fsync
        self._size = 0
        try:
            self._fd = os.open(
                path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600
            )
        except OSError as exc:
            raise _unwritable(exc) from None

    def write(self, data: bytes) -> None:
        rest = memoryview(data)
        try:
            while rest:
                rest = rest[os.write(self._fd, rest) :]
            if self._fsync:
                os.fsync(self._fd)
        except OSError as exc:
            # A reader would find its way over half a frame, but it would be told of damage that is none.
            with contextlib.suppress(OSError):
                os.ftruncate(self._fd, self._size)
                os.lseek(self._fd, self._size, os.SEEK_SET)
            raise _unwritable(exc) from None
        self._size += len(data)

    def close(self) -> None:
        """Make the file durable, whatever `fsync` says, and close it; closing twice does nothing."""
        if self._fd < 0:
            return
        fd, self._fd = self._fd, -1
        try:
            os.fsync(fd)
        except OSError as exc:
            raise _unwritable(exc) from None
        finally:
            os.close(fd)


class BytesSink:
    """Hands frames to a callback, for recordings that are streamed as they happen."""

    def __init__(self, take: Callable[[bytes], None]) -> None:
        self._take = take

    def write(self, data: bytes) -> None:
        self._take(data)

    def close(self) -> None:
        """Nothing to close."""


def _unwritable(exc: OSError) -> UnavailableError:
    return UnavailableError(
        f"the session recording cannot be written: {exc.strerror}",
        hint="make room on the disk of the data directory",
    )


class RecordingWriter:
    """One recording from its metadata to its footer. Not for use by several threads at once."""

    def __init__(self, sink: Sink, meta: SessionMeta, *, now: float) -> None:
        require_session_id(meta.session_id)
        self._sink = sink
        self._start = now
        self._last_ms = 0
        self._events: list[TimedEvent] = []
        self._buffered = 0
        self._first_at: float | None = None
        self._seq = 0
        self._chain = frame.GENESIS
        self._outputs = 0
        self._output_bytes = 0
        self._exit_status: int | None = None
        self._raw = 0
        self._stored = 0
        self._finished = False
        meta = _bounded_meta(meta)
        self._size = (meta.cols, meta.rows)
        self._batches = 0
        self._write_frame(FrameType.META, _ENCODER.encode(meta), prefix=frame.HEADER)

    @property
    def head(self) -> str:
        """Hex chain value of the newest written frame; after `finish` it stands for the whole recording."""
        return self._chain.hex()

    @property
    def is_full(self) -> bool:
        """Whether the session must end now: what follows might not be kept, or not be read."""
        return self._raw >= limits.FULL_RAW or self._stored >= limits.FULL_STORED

    @property
    def due_at(self) -> float | None:
        """When `flush` has something to do; None while nothing is buffered."""
        return None if self._first_at is None else self._first_at + limits.FLUSH_AFTER_S

    def output(self, data: bytes, now: float) -> None:
        """The session wrote these bytes."""
        for start in range(0, len(data), limits.MAX_OUTPUT_BYTES):
            piece = bytes(data[start : start + limits.MAX_OUTPUT_BYTES])
            self._outputs += 1
            self._output_bytes += len(piece)
            self._add(Output(self._ms(now), piece), len(piece), now)

    def resize(self, cols: int, rows: int, now: float) -> None:
        clamped = Resize(
            self._ms(now), min(max(cols, 1), limits.MAX_COLS), min(max(rows, 1), limits.MAX_ROWS)
        )
        self._size = (clamped.cols, clamped.rows)
        self._add(clamped, 0, now)

    def mark(self, kind: str, text: str, now: float) -> None:
        made = Mark(self._ms(now), _text(kind), _text(text))
        self._add(made, len(made.kind.encode()) + len(made.text.encode()), now)

    def exec_result(self, status: int, signal: str, now: float) -> None:
        self._exit_status = status
        self._add(ExecResult(self._ms(now), status, signal[:16]), 0, now)

    def flush(self, now: float, *, force: bool = False) -> None:
        """Write what is buffered if it is due, or at once with `force`. Raises UnavailableError."""
        due = self.due_at
        if due is not None and (force or now >= due):
            self._write_batch()

    def finish(self, now: float, *, ended: float, seal: Seal | None = None) -> Footer:
        """Write the rest and the footer, signed by `seal`, and close the sink. Nothing may follow."""
        self._write_batch()
        footer = Footer(
            ms=self._ms(now),
            ended=ended,
            outputs=self._outputs,
            output_bytes=self._output_bytes,
            frames=self._seq,
            exit_status=self._exit_status,
        )
        if seal is not None:
            signed = seal(message(self._chain, footer))
            footer = msgspec.structs.replace(
                footer, certificate=signed.certificate, signature=signed.signature
            )
        self._write_frame(FrameType.FOOTER, _ENCODER.encode(footer))
        self._finished = True
        self._sink.close()
        return footer

    def abandon(self) -> None:
        """Close without a footer, as after a failed write; the recording reads as cut."""
        self._finished = True
        self._events, self._buffered, self._first_at = [], 0, None
        self._sink.close()

    def _ms(self, now: float) -> int:
        self._last_ms = min(max(self._last_ms, round((now - self._start) * 1000)), limits.MAX_MS)
        return self._last_ms

    def _add(self, event: TimedEvent, size: int, now: float) -> None:
        if self._finished:
            raise ValueError("this recording is finished")
        self._events.append(event)
        self._buffered += size + _EVENT_COST
        if self._first_at is None:
            self._first_at = now
        if self._buffered >= limits.FLUSH_BYTES:
            self._write_batch()

    def _write_batch(self) -> None:
        # Emptied first: after a failed write the batch is lost and said to be, not kept and grown for ever.
        events, self._events, self._buffered, self._first_at = self._events, [], 0, None
        if events:
            self._batches += 1
            if self._batches % limits.SIZE_EVERY == 0:
                events.insert(0, Resize(events[0].ms, *self._size))
            self._write_frame(FrameType.BATCH, _ENCODER.encode(events))

    def _write_frame(self, frame_type: FrameType, content: bytes, prefix: bytes = b"") -> None:
        data, chain = frame.pack(frame_type, self._seq, content, self._chain)
        self._sink.write(prefix + data)
        self._chain = chain
        self._seq += 1
        self._raw += len(content)
        self._stored += len(prefix) + len(data)


_EVENT_COST = 16
"""Counted per event beside its text, so that a flood of tiny events fills a frame too."""


def _text(text: str, limit: int = limits.MAX_TEXT) -> str:
    if len(text) > limit:
        text = text[:limit] + "...[truncated]"
    return text if text.isascii() else text.encode("utf-8", "replace").decode()


def _bounded_meta(meta: SessionMeta) -> SessionMeta:
    changes: dict[str, object] = {
        name: _text(value) for name in meta.__struct_fields__ if isinstance(value := getattr(meta, name), str)
    }
    changes["participants"] = [_text(name, limits.MAX_NAME) for name in meta.participants[: limits.MAX_NAMES]]
    changes["cols"] = min(max(meta.cols, 1), limits.MAX_COLS)
    changes["rows"] = min(max(meta.rows, 1), limits.MAX_ROWS)
    return msgspec.structs.replace(meta, **changes)
