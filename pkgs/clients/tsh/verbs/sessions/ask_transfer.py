"""`tsh sessions ask-transfer`."""

from __future__ import annotations

from pkgs.clients.tsh.flags import CLUSTER
from pkgs.clients.tsh.sessions import own
from pkgs.common.output.argv import Flag, Parsed, Spec

SPEC = Spec(
    "Ask the moderators of a session of your own to let you copy files beside it, from another terminal. Once"
    " they approve, sftp or scp may be started once. Without an ID, for the only session you are in.",
    Flag("reason", "Why, for those who decide", metavar="TEXT"),
    CLUSTER,
    usage="[ID]",
    most=1,
)


def run(args: Parsed) -> int:
    """Ask the Auth Service, which tells the session's server; the answer is shown in the session."""
    from pkgs.common.api.sessions import AskTransfer

    own.ask(args, lambda session_id: AskTransfer(session_id=session_id, reason=args.text("reason")))
    print("The moderators are asked; what they answer is shown in the session.")
    return 0
