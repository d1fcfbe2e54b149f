"""`tctl recordings encryption complete-rotation`."""

from __future__ import annotations

from pkgs.clients.tctl.flags import FORMAT
from pkgs.clients.tctl.verbs.recordings.encryption.shown import ask
from pkgs.common.api.encryption import CompleteRecordingRotation
from pkgs.common.output.argv import Parsed, Spec

SPEC = Spec(
    "Complete a rotation: recordings are encrypted for the new key only. The old one is kept and opens older"
    " recordings.",
    FORMAT,
)


def run(args: Parsed) -> int:
    """Ask and print."""
    return ask(args, CompleteRecordingRotation(), "Recordings are encrypted for the new key only.")
