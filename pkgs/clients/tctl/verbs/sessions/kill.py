"""`tctl sessions kill`."""

from __future__ import annotations

import sys

from pkgs.clients.tctl.connect import connect
from pkgs.common.api.sessions import KillSession
from pkgs.common.output.argv import Flag, Parsed, Spec
from pkgs.common.recording.ids import require_session_id

SPEC = Spec(
    "End one session at once; its user may open another: 'tctl lock' is what keeps them out. Everybody in it"
    " reads the reason. Needs the verb delete on session_tracker.",
    Flag("reason", "What those in the session read", metavar="TEXT"),
    usage="ID",
    least=1,
    most=1,
)


def run(args: Parsed) -> int:
    """Give the order."""
    session_id = require_session_id(args.words[0])
    with connect(args) as client:
        client.call(KillSession(session_id=session_id, reason=args.text("reason")))
    sys.stdout.write(f"Session {session_id} is being ended.\n")
    return 0
