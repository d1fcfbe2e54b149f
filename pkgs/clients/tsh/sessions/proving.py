"""Giving the Auth Service a one-time code, to show that a moderator is there."""

from __future__ import annotations

from pkgs.clients.tsh.connections.dial import auth_client
from pkgs.clients.tsh.profile.login import Login
from pkgs.common.errors import AccessError
from pkgs.common.output.sanitize import inert

_DEADLINE_S = 15.0


def prove(login: Login, session_id: str, code: str) -> float:
    """Seconds that it counts for. Raises AccessError."""
    from pkgs.common.api.sessions import ProvePresence

    client = auth_client(login)
    try:
        return client.call(ProvePresence(session_id=session_id, otp=code), deadline_s=_DEADLINE_S).for_s
    finally:
        client.close()


def say(login: Login, session_id: str, code: str) -> str:
    """The same in words, also of what went wrong."""
    try:
        prove(login, session_id, code)
    except AccessError as problem:
        return inert(str(problem))
    return "The code is accepted."
