"""`tctl recordings download`."""

from __future__ import annotations

import os
import sys
import tempfile
from pathlib import Path

from pkgs.clients.tctl.connect import connect
from pkgs.clients.tsh.recordings.remote import download_to
from pkgs.common.errors import AlreadyExistsError, InputError
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
    if out.is_dir():
        raise InputError(f"--out: {out} is a folder", hint="name a file in it")
    if out.exists() and not args.on("overwrite"):
        raise AlreadyExistsError(f"{out} exists", hint="add --overwrite")
    descriptor, name = _beside(out)
    partial = Path(name)
    try:
        with os.fdopen(descriptor, "wb") as file, connect(args) as client:
            download_to(client, session_id, file)
        partial.replace(out)
    except BaseException:
        partial.unlink(missing_ok=True)
        raise
    sys.stdout.write(f"The recording has been written to {out}\n")
    return 0


def _beside(out: Path) -> tuple[int, str]:
    """A new file in the same folder, private from its first byte."""
    try:
        return tempfile.mkstemp(prefix=f".{out.name[:100]}.", dir=out.parent)
    except OSError as error:
        raise InputError(f"--out: {out} can't be written: {error.strerror}") from error
