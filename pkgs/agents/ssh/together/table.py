"""The live sessions on terminals of one SSH Service, by id; the way in for whoever joins one or ends one."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING

from pkgs.common.errors import NotFoundError, UnavailableError

if TYPE_CHECKING:
    from pkgs.agents.ssh.together.shared import SharedSession

Announce = Callable[[], Awaitable[None]]
"""Tells the Auth Service of all sessions and returns once it knows. Raises AccessError."""


async def nowhere() -> None:
    """Of a service that tells nobody of its sessions: those that need company do not begin."""
    raise UnavailableError("nobody can be told of this session")


class Table:
    """`announce` is for sessions that wait for company: who should come must be able to find them."""

    def __init__(self) -> None:
        self.announce: Announce = nowhere
        self.changed: Callable[[], None] = lambda: None
        self._sessions: dict[str, SharedSession] = {}

    def add(self, session: SharedSession) -> None:
        self._sessions[session.session_id] = session
        self.changed()

    def remove(self, session: SharedSession) -> None:
        if self._sessions.pop(session.session_id, None) is not None:
            self.changed()

    def find(self, session_id: str) -> SharedSession:
        """Raises NotFoundError, which says the same to those who may not join it."""
        try:
            return self._sessions[session_id]
        except KeyError:
            raise no_such_session() from None

    def left_by(self, user: str) -> int:
        """How many sessions go on without this owner."""
        return sum(bool(each.detached) and each.owner == user for each in self._sessions.values())

    def all(self) -> list[SharedSession]:
        return list(self._sessions.values())


def no_such_session() -> NotFoundError:
    return NotFoundError(
        "there is no such session here, or you may not join it in that mode",
        hint="`tsh sessions ls` lists the sessions you may join",
    )
