"""`tctl users reset`."""

from __future__ import annotations

from pkgs.clients.tctl.connect import connect
from pkgs.clients.tctl.flags import TEXT_OR_JSON, duration
from pkgs.clients.tctl.verbs.users import invitation
from pkgs.common.api.login import ResetUser
from pkgs.common.output.argv import Flag, Parsed, Spec

SPEC = Spec(
    "Take away a user's password and second factors at once, and print a link for setting new ones.",
    Flag("ttl", "How long the link is valid, at most 24h", default="8h", metavar="DURATION"),
    TEXT_OR_JSON,
    usage="ACCOUNT",
    least=1,
    most=1,
)
LONGEST_S = 24 * 3600.0


def run(args: Parsed) -> int:
    """Reset and print the link."""
    request = ResetUser(name=args.words[0], ttl_s=duration(args, "ttl", most_s=LONGEST_S))
    with connect(args) as client:
        answer = client.call(request)
    head = f'User "{answer.user}" has been reset. Share this URL with the user to complete password reset'
    invitation.show(answer, head, args.text("format"))
    return 0
