"""`tctl recordings encryption rotate`."""

from __future__ import annotations

from pkgs.clients.tctl.flags import FORMAT
from pkgs.clients.tctl.verbs.recordings.encryption.shown import ask
from pkgs.common.api.encryption import RotateRecordingKeys
from pkgs.common.output.argv import Parsed, Spec

SPEC = Spec(
    "Begin to rotate the key of recordings: from now on they are encrypted for a new key too. Then complete"
    " it or roll it back.",
    FORMAT,
)


def run(args: Parsed) -> int:
    """Ask and print."""
    return ask(args, RotateRecordingKeys(), "Recordings are encrypted for a new key too.")
