"""Listing and downloading recordings, for tsh and tctl."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import BinaryIO

import msgspec

from pkgs.common.api.recordings import DownloadRecording, ListRecordings, RecordingInfo
from pkgs.common.errors import AlreadyExistsError, InputError
from pkgs.common.output import formats, times
from pkgs.common.output.argv import Flag, Parsed
from pkgs.common.output.progress import Progress
from pkgs.common.output.table import render, terminal_width
from pkgs.common.recording.ids import require_session_id
from pkgs.common.resources.durations import parse_duration
from pkgs.common.rpc.calls import BlockingClient

WINDOW_FLAGS = (
    Flag("from-utc", "Start of the time window (2026-01-31, or with a time)", metavar="TIME"),
    Flag("to-utc", "End of the time window; a day is included", metavar="TIME"),
    Flag("last", "The last so long, such as 5h30m", metavar="DURATION"),
    Flag("limit", "Most recordings listed", default="50", metavar="N"),
)
EXPORT_FLAGS = (
    Flag("format", "asciicast, html, text, json or yaml", short="f", default="asciicast",
         choices=("asciicast", "html", "text", "json", "yaml"), metavar="FORMAT"),
    Flag("out", "File to write; standard output without it", short="o", metavar="FILE"),
    Flag("overwrite", "Replace the file if it exists", is_bool=True),
)  # fmt: skip
DEFAULT_WINDOW_S = 24 * 3600.0
DAY_S = 86_400.0
DEADLINE_S = 60.0


def window(args: Parsed) -> tuple[float, float]:
    """Since and until in unix seconds, from the flags; the last day by default."""
    if args.text("last"):
        if args.text("from-utc") or args.text("to-utc"):
            raise InputError("use either --last or --from-utc and --to-utc")
        return time.time() - parse_duration(args.text("last")), 0.0
    until = 0.0
    if args.text("to-utc"):
        until = times.parse(args.text("to-utc"), flag="--to-utc")
        if len(args.text("to-utc").strip()) == len("2026-01-31"):
            until += DAY_S
    if args.text("from-utc"):
        return times.parse(args.text("from-utc"), flag="--from-utc"), until
    return (until or time.time()) - DEFAULT_WINDOW_S, until


def listing(client: BlockingClient, args: Parsed) -> list[RecordingInfo]:
    """The recordings that the flags ask for, newest first."""
    since, until = window(args)
    request = ListRecordings(since=since, until=until, limit=args.whole("limit", least=1))
    found: list[RecordingInfo] = []
    for part in client.stream(request, deadline_s=DEADLINE_S):
        found += part.recordings
    return found


def show(found: list[RecordingInfo], format: str) -> None:
    """Print a listing."""
    if format != "text":
        rows = [
            {
                **msgspec.to_builtins(info),
                "started": times.rfc3339(info.started),
                "ended": times.rfc3339(info.ended),
            }
            for info in found
        ]
        formats.write_list(rows, format)
        return
    rows_text = [
        (info.session_id, info.kind, ", ".join(info.participants), info.hostname, times.short(info.started))
        for info in found
    ]
    sys.stdout.write(
        render(("ID", "Type", "Participants", "Hostname", "Timestamp"), rows_text, width=terminal_width())
    )


def download(client: BlockingClient, session_id: str) -> Iterator[bytes]:
    """The recording's bytes as they come."""
    request = DownloadRecording(session_id=require_session_id(session_id))
    received = 0
    with Progress("Downloading the recording") as progress:
        for chunk in client.stream(request):
            received += len(chunk.data)
            progress.update(f"{received / 1048576:.1f} MiB")
            yield chunk.data


def download_to(client: BlockingClient, session_id: str, file: BinaryIO) -> None:
    """The recording's bytes into an open file."""
    for data in download(client, session_id):
        file.write(data)
    file.flush()


def write_out(args: Parsed, pieces: Iterable[str]) -> int:
    """Write an export where the flags say: a private file, as what was on a screen may be."""
    if not args.text("out"):
        sys.stdout.writelines(pieces)
        return 0
    out = Path(args.text("out"))
    try:
        with open(out, "w" if args.on("overwrite") else "x", opener=_private) as target:
            target.writelines(pieces)
    except FileExistsError:
        raise AlreadyExistsError(f"{out} exists", hint="add --overwrite") from None
    except OSError as error:
        raise InputError(f"--out: {out} can't be written: {error.strerror}") from None
    sys.stdout.write(f"The recording has been written to {out}\n")
    return 0


def _private(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_CLOEXEC, 0o600)
