"""Calls about a session that the caller is in, from another terminal."""

from __future__ import annotations

from pkgs.clients.tsh.connections.dial import auth_client
from pkgs.clients.tsh.profile.login import current
from pkgs.clients.tsh.sessions import listing
from pkgs.common.errors import InputError, NotFoundError

TYPE_CHECKING = False
if TYPE_CHECKING:
    # Only for the type checker; see `common/errors`.
    from collections.abc import Callable

    from pkgs.common.api.login import Done
    from pkgs.common.output.argv import Parsed
    from pkgs.common.rpc.calls import BlockingClient, Request


def ask(args: Parsed, request: Callable[[str], Request[Done]]) -> str:
    """Make a call about the session that is named, else the only one that the caller is in; its id."""
    from pkgs.common.recording.ids import require_session_id

    login = current(args)
    client = auth_client(login)
    try:
        session_id = require_session_id(args.words[0]) if args.words else _only_one(client, login.user)
        client.call(request(session_id), deadline_s=listing.DEADLINE_S)
    finally:
        client.close()
    return session_id


def _only_one(client: BlockingClient, user: str) -> str:
    """Id of the only session on a terminal that this user is in. Raises NotFoundError, InputError."""
    found = [
        session.session_id
        for session in listing.fetch(client, kind="ssh")
        if session.host_user == user and not session.detached
    ]
    if not found:
        raise NotFoundError("you are in no session on a terminal", hint="'tsh ssh' opens one")
    if len(found) > 1:
        raise InputError(f"you are in {len(found)} sessions", hint="name one: 'tsh sessions ls' lists them")
    return found[0]
