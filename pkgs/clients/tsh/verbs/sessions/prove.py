"""`tsh sessions prove`."""

from __future__ import annotations

from pkgs.clients.tsh.flags import CLUSTER
from pkgs.clients.tsh.login import ask
from pkgs.clients.tsh.profile.login import current
from pkgs.clients.tsh.sessions import proving
from pkgs.common.output.argv import Parsed, Spec

SPEC = Spec(
    "Show by a one-time code that you are there, as the moderator of a session that demands it. In 'tsh join'"
    " it is enough to type the code; this is for other clients.",
    ask.OTP_STDIN,
    CLUSTER,
    usage="ID",
    least=1,
    most=1,
)


def run(args: Parsed) -> int:
    """Ask for the code and give it to the Auth Service."""
    from pkgs.common.recording.ids import require_session_id

    session_id = require_session_id(args.words[0])
    login = current(args)
    seconds = proving.prove(login, session_id, ask.one_time_code(args, "One-time code: "))
    print(f"You count as present for {seconds / 60:.0f} minutes at most.")
    return 0
