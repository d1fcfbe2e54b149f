"""`tsh recordings export`."""

from __future__ import annotations

from pkgs.clients.tsh.flags import CLUSTER
from pkgs.clients.tsh.recordings.convert import convert
from pkgs.clients.tsh.recordings.remote import EXPORT_FLAGS, download, write_out
from pkgs.clients.tsh.recordings.source import open_recording
from pkgs.common.output.argv import Parsed, Spec

SPEC = Spec(
    "Write a recording as an asciicast, which asciinema and many web pages play, as a page to read, as text"
    " or as its events.",
    *EXPORT_FLAGS,
    CLUSTER,
    usage="SESSION_ID|FILE",
    least=1,
    most=1,
)


def run(args: Parsed) -> int:
    """Download and convert."""
    with open_recording(args, download) as file:
        return write_out(args, convert(file, args.text("format")))
