"""`tsh recordings export`."""

from __future__ import annotations

import sys
from pathlib import Path

from pkgs.clients.tsh.flags import CLUSTER
from pkgs.clients.tsh.recordings.remote import download
from pkgs.clients.tsh.recordings.source import open_recording
from pkgs.common.errors import AlreadyExistsError
from pkgs.common.output.argv import Flag, Parsed, Spec
from pkgs.common.output.sanitize import inert_json
from pkgs.common.recording.export import to_asciicast
from pkgs.common.recording.reader import read_items

SPEC = Spec(
    "Write a recording as an asciicast, which asciinema and many web pages play.",
    Flag("out", "File to write; standard output without it", short="o", metavar="FILE"),
    Flag("overwrite", "Replace the file if it exists", is_bool=True),
    CLUSTER,
    usage="SESSION_ID",
    least=1,
    most=1,
)


def run(args: Parsed) -> int:
    """Download and convert."""
    with open_recording(args, download) as file:
        lines = (inert_json(line.decode()) for line in to_asciicast(read_items(file)))
        if not args.text("out"):
            sys.stdout.writelines(lines)
            return 0
        out = Path(args.text("out"))
        try:
            with out.open("w" if args.on("overwrite") else "x") as target:
                target.writelines(lines)
        except FileExistsError:
            raise AlreadyExistsError(f"{out} exists", hint="add --overwrite") from None
    sys.stdout.write(f"The recording has been written to {out}\n")
    return 0
