"""Recordings for tests, and the smallest ways to make and read them."""

from __future__ import annotations

from collections.abc import Iterable

from pkgs.common.recording.model import Item, SessionMeta
from pkgs.common.recording.reader import decode_chunks
from pkgs.common.recording.writer import BytesSink, RecordingWriter

SID = "4f6e2a10-9b1c-4c53-8a51-0d8a1f1f2b77"


def meta(**changes) -> SessionMeta:
    values = {
        "session_id": SID,
        "cluster_name": "alpha",
        "user": "mira",
        "login": "deploy",
        "host_id": "9a2c6b52-0d0a-4a0e-9a4f-1b8a90a5b0aa",
        "hostname": "build-1",
        "started": 1_790_000_000.0,
        "cols": 100,
        "rows": 30,
        "term": "xterm-256color",
    }
    return SessionMeta(**{**values, **changes})


def written(pieces: Iterable[tuple[float, bytes]], *, finish: bool = True, **changes) -> bytes:
    """A recording of output at the given seconds."""
    out = bytearray()
    writer = RecordingWriter(BytesSink(out.extend), meta(**changes), now=0.0)
    at = 0.0
    for at, data in pieces:
        writer.output(data, at)
        writer.flush(at)
    if finish:
        writer.exec_result(0, "", at)
        writer.finish(at, ended=1_790_000_000.0 + at)
    return bytes(out)


def items(raw: bytes, chunk: int = 10_000) -> list[Item]:
    return list(decode_chunks(raw[i : i + chunk] for i in range(0, len(raw), chunk)))
