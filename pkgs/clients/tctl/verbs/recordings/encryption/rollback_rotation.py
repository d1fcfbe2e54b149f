"""`tctl recordings encryption rollback-rotation`."""

from __future__ import annotations

from pkgs.clients.tctl.flags import FORMAT
from pkgs.clients.tctl.verbs.recordings.encryption.shown import ask
from pkgs.common.api.encryption import RollBackRecordingRotation
from pkgs.common.output.argv import Parsed, Spec

SPEC = Spec(
    "Give a rotation up: the new key is dropped. What was recorded meanwhile is encrypted for the old"
    " one too.",
    FORMAT,
)


def run(args: Parsed) -> int:
    """Ask and print."""
    return ask(args, RollBackRecordingRotation(), "The new key was dropped.")
