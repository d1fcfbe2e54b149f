"""Recordings: what writing costs, and going to any moment of an eight-hour one."""

from __future__ import annotations

import os
import random
import tempfile
import time
from pathlib import Path

from pkgs.common.recording.encrypted.keys import AgeKey, new_private_key
from pkgs.common.recording.encrypted.reading import decrypted
from pkgs.common.recording.encrypted.writing import RecordingCipher
from pkgs.common.recording.model import SessionMeta
from pkgs.common.recording.seek import end_ms, items_near
from pkgs.common.recording.showing.player import Finished, Player, Wait
from pkgs.common.recording.writer import BytesSink, FileSink, RecordingWriter, Sink
from tests.bench.report import Row, median

KEY = AgeKey(new_private_key())
META = SessionMeta(
    session_id="4f6e2a10-9b1c-4c53-8a51-0d8a1f1f2b77",
    cluster_name="bench",
    user="mira",
    login="root",
    host_id="4f6e2a10-9b1c-4c53-8a51-0d8a1f1f2b77",
    hostname="h",
    started=1.79e9,
)


def _written(path: Path, hours: float) -> None:
    """Somebody at work: a screen of text every few seconds, for hours."""
    chosen = random.Random(1)
    words = [f"{chosen.getrandbits(40):x}".encode() for _ in range(5000)]
    writer = RecordingWriter(FileSink(path), META, now=0.0)
    now = 0.0
    while now < hours * 3600:
        writer.output(b" ".join(chosen.choices(words, k=150)) + b"\r\n", now)
        writer.flush(now)
        now += 2.0
    writer.finish(now, ended=1.79e9 + now)


def _shown_in(path: Path, at: float) -> float:
    """Milliseconds from a key that goes to this part of the recording to its screen."""
    with path.open("rb") as file:
        player = Player(lambda ms: items_near(file, ms))
        player.step(0.0)
        began = time.perf_counter()
        player.seek(end_ms(file) * at, 0.0)
        while not isinstance(player.step(0.0), Wait | Finished):
            pass
        return (time.perf_counter() - began) * 1e3


def _writing_mb_s(path: Path, mb: int, *, encrypted: bool = False) -> float:
    """Of CPU time, on output as a terminal shows it: what recording takes from a session."""
    lines = b"".join(b"%07d the quick brown fox jumps over the lazy dog\r\n" % n for n in range(600))
    sink: Sink = FileSink(path)
    if encrypted:
        sink = RecordingCipher(META.session_id, [KEY.public_key]).around(sink)
    writer = RecordingWriter(sink, META, now=0.0)
    began = time.process_time()
    for number in range(mb * 1_000_000 // len(lines)):
        writer.output(lines, number / 1000)
        writer.flush(number / 1000)
    took = time.process_time() - began
    writer.abandon()
    return mb / took


def _opening_s(path: Path) -> float:
    """Seconds in which the Auth Service decrypts this recording, once it is encrypted."""
    stored: list[bytes] = []
    sink = RecordingCipher(META.session_id, [KEY.public_key]).around(BytesSink(stored.append))
    with path.open("rb") as file:
        while data := file.read(32 * 1024):
            sink.write(data)
    began = time.perf_counter()
    for _ in decrypted(stored, lambda wrapped: KEY.open(wrapped.envelope), META.session_id):
        pass
    return time.perf_counter() - began


def run(*, full: bool = True) -> list[Row]:
    """All rows on recordings."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "long.rec")
        _written(path, 8 if full else 1)
        size = os.stat(path).st_size / 1e6  # noqa: PTH116
        worst = max(median([_shown_in(path, at) for _ in range(5)]) for at in (0.999, 0.5, 0.1))
        hours = "eight-hour" if full else "one-hour"
        speed = _writing_mb_s(Path(folder, "w.rec"), 200 if full else 40)
        secret = _writing_mb_s(Path(folder, "e.rec"), 200 if full else 40, encrypted=True)
        opening = _opening_s(path) * 1e3
        return [
            Row(f"going to a moment of an {hours} recording ({size:.0f} MB)", worst, "ms", goal="<= 100 ms",
                met=worst <= 100),
            Row("writing a recording, per CPU second", speed, "MB"),
            Row("writing an encrypted one, per CPU second", secret, "MB"),
            Row(f"decrypting an {hours} recording before it is played", opening, "ms"),
        ]  # fmt: skip
