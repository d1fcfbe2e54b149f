"""`tctl recordings encryption forget`."""

from __future__ import annotations

from pkgs.clients.tctl.flags import FORMAT
from pkgs.clients.tctl.verbs.recordings.encryption.shown import ask
from pkgs.common.api.encryption import ForgetRecordingKey
from pkgs.common.output.argv import Parsed, Spec

SPEC = Spec(
    "On the Auth host: drop a rotated key that no stored recording needs. What hosts have encrypted for it"
    " alone and not uploaded yet is lost.",
    FORMAT,
    usage="PUBLIC_KEY",
    least=1,
    most=1,
)


def run(args: Parsed) -> int:
    """Ask and print."""
    return ask(args, ForgetRecordingKey(public_key=args.words[0]), "The key was dropped.")
