"""`tsh sessions detach`."""

from __future__ import annotations

from pkgs.clients.tsh.flags import CLUSTER
from pkgs.clients.tsh.sessions import own
from pkgs.common.output.argv import Parsed, Spec

SPEC = Spec(
    "Leave a session of your own, from another terminal; it goes on for some hours, and 'tsh join --mode=peer"
    " ID' brings you back to it. Without an ID, the only one you are in.",
    CLUSTER,
    usage="[ID]",
    most=1,
)


def run(args: Parsed) -> int:
    """Ask the Auth Service, which tells the session's server."""
    from pkgs.common.api.sessions import DetachSession

    session_id = own.ask(args, lambda session_id: DetachSession(session_id=session_id))
    print(f"The session goes on without you. Come back with: tsh join --mode=peer {session_id}")
    return 0
