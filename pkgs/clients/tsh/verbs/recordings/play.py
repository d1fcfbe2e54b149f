"""`tsh play`."""

from __future__ import annotations

import sys
from typing import BinaryIO

from pkgs.clients.tsh.flags import CLUSTER
from pkgs.clients.tsh.recordings.remote import download
from pkgs.clients.tsh.recordings.source import open_recording
from pkgs.common.errors import InputError
from pkgs.common.output.argv import Flag, Parsed, Spec

SPEC = Spec(
    "Replay a recorded session. At a terminal: space pauses, left and right move ten seconds, + and - change"
    " the speed, q ends. Into a pipe or a file it prints plain text, in which no escape sequence survives.",
    Flag("format", "pty (as it looked), text, json or yaml (its events), asciicast (for asciinema)",
         short="f", default="pty", choices=("pty", "text", "json", "yaml", "asciicast"), metavar="FORMAT"),
    Flag("speed", "Speed of the replay", default="1x", choices=("0.5x", "1x", "2x", "4x", "8x"),
         metavar="SPEED"),
    Flag("skip-idle-time", "Shorten pauses", is_bool=True),
    CLUSTER,
    usage="SESSION_ID|FILE",
    least=1,
    most=1,
)  # fmt: skip


def run(args: Parsed) -> int:
    """Play or convert."""
    with open_recording(args, download) as file:
        if args.text("format") == "pty" and sys.stdout.isatty():
            from pkgs.clients.tsh.recordings.screen import play

            play(file, speed=float(args.text("speed")[:-1]), skip_idle=args.on("skip-idle-time"))
        else:
            _convert(file, args.text("format"))
    return 0


def _convert(file: BinaryIO, format: str) -> None:
    from pkgs.common.recording import export
    from pkgs.common.recording.reader import read_items

    items = read_items(file)
    if format in ("pty", "text"):
        # Without a terminal nobody asked for escape sequences.
        sys.stdout.writelines(export.to_text(items))
    elif format == "json":
        _lines(export.to_json_lines(items))
    elif format == "asciicast":
        _lines(export.to_asciicast(items))
    elif format == "yaml":
        import msgspec

        from pkgs.common.output.yamlout import dumps_all

        sys.stdout.writelines(dumps_all(msgspec.json.decode(line) for line in export.to_json_lines(items)))
    else:
        raise InputError(f"format {format!r} is not known")


def _lines(lines: object) -> None:
    from collections.abc import Iterable

    from pkgs.common.output.sanitize import inert_json

    assert isinstance(lines, Iterable)
    for line in lines:
        sys.stdout.write(inert_json(line.decode()))
