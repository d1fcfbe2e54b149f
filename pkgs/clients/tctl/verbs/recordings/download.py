"""`tctl recordings download`."""

from __future__ import annotations

import sys
from pathlib import Path

from pkgs.clients.tctl.connect import connect
from pkgs.clients.tsh.recordings.remote import download_to
from pkgs.common.errors import AlreadyExistsError
from pkgs.common.output.argv import Flag, Parsed, Spec
from pkgs.common.recording.ids import require_session_id

SPEC = Spec(
    "Save a recording as a file; 'tsh play FILE' plays it.",
    Flag("out", "File to write, default <session id>.rec", short="o", metavar="FILE"),
    Flag("overwrite", "Replace the file if it exists", is_bool=True),
    usage="SESSION_ID",
    least=1,
    most=1,
)


def run(args: Parsed) -> int:
    """Download; a failed download leaves no file."""
    session_id = require_session_id(args.words[0])
    out = Path(args.text("out") or f"{session_id}.rec")
    if out.exists() and not args.on("overwrite"):
        raise AlreadyExistsError(f"{out} exists", hint="add --overwrite")
    partial = out.with_name(f".{out.name}.partial")
    try:
        with connect(args) as client, partial.open("wb") as file:
            partial.chmod(0o600)
            download_to(client, session_id, file)
        partial.replace(out)
    except BaseException:
        partial.unlink(missing_ok=True)
        raise
    sys.stdout.write(f"The recording has been written to {out}\n")
    return 0
