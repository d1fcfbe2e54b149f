"""`tctl recordings export`."""

from __future__ import annotations

import tempfile

from pkgs.clients.tctl.connect import connect
from pkgs.clients.tsh.recordings.convert import convert
from pkgs.clients.tsh.recordings.remote import EXPORT_FLAGS, download_to, write_out
from pkgs.common.output.argv import Parsed, Spec
from pkgs.common.recording.ids import require_session_id

SPEC = Spec(
    "Write a recording as an asciicast, which asciinema and many web pages play, as a page to read, as text"
    " or as its events.",
    *EXPORT_FLAGS,
    usage="SESSION_ID",
    least=1,
    most=1,
)


def run(args: Parsed) -> int:
    """Download and convert."""
    session_id = require_session_id(args.words[0])
    with tempfile.TemporaryFile() as file:
        with connect(args) as client:
            download_to(client, session_id, file)
        file.seek(0)
        return write_out(args, convert(file, args.text("format")))
