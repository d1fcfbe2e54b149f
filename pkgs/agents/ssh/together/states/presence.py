"""Moderators who must show that they are there, where MFA is demanded: only they count (attack A30).

    unseen --proof--> here --PRESENCE_EVERY_S--> asked --PRESENCE_ANSWER_S--> missed
    any of them --proof--> here

A proof is the Auth Service's word, heard over this service's own connection to it, for one session and one
user of this cluster. It counts from the moment it was given, not from when word of it came.
"""

from __future__ import annotations

from pkgs.agents.ssh.together.limits import MAX_PROOFS
from pkgs.agents.ssh.together.visit import Standing, Visit
from pkgs.common.access.visiting import must_prove
from pkgs.common.api.sessions import PRESENCE_ANSWER_S, PRESENCE_EVERY_S
from pkgs.common.errors import DeniedError
from pkgs.common.pki.identity import Identity
from pkgs.common.ssh.service.gate import Gate


class Attendance:
    """Of one session."""

    def __init__(self, gate: Gate, owner: Identity, session_id: str) -> None:
        self._gate = gate
        self._owner = owner
        self._how = f"Type your one-time code, or run elsewhere: tsh sessions prove {session_id}"
        self._proofs: dict[str, float] = {}

    def proven(self, user: str, at: float) -> None:
        """The Auth Service says so. Those who are not here yet may come."""
        at = min(at, self._gate.now())  # a clock that is ahead gives nobody more time
        self._proofs[user] = max(at, self._proofs.pop(user, at))
        while len(self._proofs) > MAX_PROOFS:
            del self._proofs[next(iter(self._proofs))]

    def counts(self, visit: Visit) -> bool:
        """Whether this visitor is there as far as policies and the power to end the session go."""
        return self._standing(visit) in ("free", "here", "asked")

    def news(self, visit: Visit) -> str:
        """What they should read now, if it is not what they have read last."""
        standing, told = self._standing(visit), visit.standing
        visit.standing = standing
        match standing:
            case _ if standing == told:
                return ""
            case "unseen":
                return f"You count once you have shown that you are here. {self._how}"
            case "asked":
                return f"Show within {PRESENCE_ANSWER_S:.0f} seconds that you are still here. {self._how}"
            case "missed":
                return f"You do not count any more until you have shown that you are here. {self._how}"
            case "here" if told in ("unseen", "asked", "missed"):
                return "You have shown that you are here."
        return ""

    def _standing(self, visit: Visit) -> Standing:
        identity = visit.parties.identity
        if visit.mode != "moderator" or not self._demanded(identity):
            return "free"
        at = self._proofs.get(identity.name)
        if at is None or identity.cluster != self._gate.cache.cluster_name or identity.impersonator:
            return "unseen"
        age = self._gate.now() - at
        if age < PRESENCE_EVERY_S:
            return "here"
        return "asked" if age < PRESENCE_EVERY_S + PRESENCE_ANSWER_S else "missed"

    def _demanded(self, identity: Identity) -> bool:
        cache = self._gate.cache
        try:
            roles = (*cache.roles_of(identity), *cache.roles_of(self._owner))
        except DeniedError:
            return True  # nobody knows what a role demanded that is gone
        return must_prove(cache.auth_preference, roles)
