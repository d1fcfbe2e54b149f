"""A session that its owner has left, and that goes on: who may leave it so, and how long it waits for them.

    attached --the owner's order--> alone --owner joins--> in company of the owner --leaves--> alone
    alone for DETACHED_S, or past the certificate that it was opened with --> to be ended

It is not attached again: its owner comes as everybody does who joins. All that ends a session ends this one.
"""

from __future__ import annotations

from collections.abc import Iterable

from pkgs.agents.ssh.together.limits import DETACHED_S
from pkgs.agents.ssh.together.visit import Visit
from pkgs.common.pki.identity import Identity

TOO_LONG = "The session was ended: its owner left it and did not come back in time."
EXPIRED = "The session was ended: the certificate that it was opened with has expired."


class Detachment:
    """Of one session."""

    def __init__(self, owner: Identity) -> None:
        self._owner = owner
        self._seen: float | None = None

    def __bool__(self) -> bool:
        return self._seen is not None

    def may(self, by: str, cluster: str) -> bool:
        """Whether this user of this cluster may order it: whoever opened it, in person."""
        opened = self._owner
        return (by, cluster) == (opened.name, opened.cluster) and not (opened.impersonator or opened.bot_name)

    def begin(self, now: float) -> None:
        self._seen = now

    def is_owner(self, visit: Visit) -> bool:
        identity = visit.parties.identity
        return self.may(identity.name, identity.cluster) and not identity.impersonator

    def over(self, now: float, visits: Iterable[Visit]) -> str:
        """Why it ends now; empty: it does not."""
        if self._seen is None:
            return ""
        if any(map(self.is_owner, visits)):
            self._seen = now
        if now >= (self._owner.previous_expires_at or self._owner.expires_at):
            return EXPIRED
        return TOO_LONG if now - self._seen >= DETACHED_S else ""
