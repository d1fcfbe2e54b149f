"""`tctl recordings encryption status`."""

from __future__ import annotations

from pkgs.clients.tctl.flags import FORMAT
from pkgs.clients.tctl.verbs.recordings.encryption.shown import ask
from pkgs.common.api.encryption import GetRecordingEncryption
from pkgs.common.output.argv import Parsed, Spec

SPEC = Spec(
    "Show whether recordings are encrypted, and the keys for it.",
    FORMAT,
)


def run(args: Parsed) -> int:
    """Ask and print."""
    return ask(args, GetRecordingEncryption())
