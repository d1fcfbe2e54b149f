"""The headless requests that wait. Bounded for everybody, each source and each user: anybody may ask."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field

from pkgs.auth import limits
from pkgs.common.api.headless import LIFE_S
from pkgs.common.api.login import UserCerts
from pkgs.common.errors import DeniedError, LimitExceededError, NotFoundError

NOT_THERE = "there is no such request, or not any more"


@dataclass(slots=True)
class Waiting:
    """One request. `outcome` is the certificates, or why there are none."""

    id: str
    user: str
    ssh_key: str
    tls_key: str
    client_addr: str
    created: float
    looked_at: bool = False
    deciding: bool = False
    outcome: UserCerts | DeniedError | None = None
    decided: asyncio.Event = field(default_factory=asyncio.Event)

    def decide(self, outcome: UserCerts | DeniedError) -> None:
        self.outcome = outcome
        self.decided.set()


class WaitingRequests:
    def __init__(self, now: Callable[[], float]) -> None:
        self._now = now
        self._all: dict[str, Waiting] = {}

    def ask(self, request: Waiting) -> Waiting:
        """The request of this id and these very keys: one that waits already, or this. DeniedError when the
        id is another's; LimitExceededError."""
        self._forget_old()
        known = self._all.get(request.id)
        if known is not None:
            if (known.user, known.ssh_key, known.tls_key) != (request.user, request.ssh_key, request.tls_key):
                raise DeniedError("this request belongs to somebody else")
            return known
        of_source = sum(one.client_addr == request.client_addr for one in self._all.values())
        of_user = sum(one.user == request.user for one in self._all.values())
        if (
            len(self._all) >= limits.HEADLESS_WAITING
            or of_source >= limits.HEADLESS_OF_SOURCE
            or of_user >= limits.HEADLESS_OF_USER
        ):
            raise LimitExceededError(
                "too many headless logins are waiting", hint="try again in a few minutes"
            )
        self._all[request.id] = request
        return request

    def of(self, user: str, headless_id: str) -> Waiting:
        """A user's own request that is not decided yet. Somebody else's is told like none (NotFoundError)."""
        self._forget_old()
        found = self._all.get(headless_id)
        if found is None or found.user != user or found.outcome is not None or found.deciding:
            raise NotFoundError(NOT_THERE, hint="start it again on the other machine")
        return found

    def take(self, request: Waiting) -> None:
        """Its outcome was picked up."""
        self._all.pop(request.id, None)

    def _forget_old(self) -> None:
        now = self._now()
        for one in [one for one in self._all.values() if not 0 <= now - one.created < LIFE_S]:
            del self._all[one.id]
