"""`tsh sessions detach`."""

from __future__ import annotations

from pkgs.clients.tsh.connections.dial import auth_client
from pkgs.clients.tsh.flags import CLUSTER
from pkgs.clients.tsh.profile.login import current
from pkgs.clients.tsh.sessions import listing
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
    from pkgs.common.recording.ids import require_session_id

    login = current(args)
    client = auth_client(login)
    try:
        session_id = require_session_id(args.words[0]) if args.words else listing.only_own(client, login.user)
        client.call(DetachSession(session_id=session_id), deadline_s=listing.DEADLINE_S)
    finally:
        client.close()
    print(f"The session goes on without you. Come back with: tsh join --mode=peer {session_id}")
    return 0
