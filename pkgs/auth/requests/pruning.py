"""Telling the audit log of requests that nobody decided in time, or whose access is over."""

from __future__ import annotations

from pkgs.auth.audit.journal import Journal
from pkgs.auth.state.store import Store
from pkgs.common.events.codes import ACCESS_REQUEST_EXPIRE
from pkgs.common.resources.kinds import AccessRequest


class Pruning:
    """Runs before each sweep of the storage, which then removes what was told of."""

    def __init__(self, store: Store, journal: Journal) -> None:
        self._store = store
        self._journal = journal
        self._told: set[str] = set()

    async def run(self) -> None:
        """Each once, also when the sweep fails for a while; after a crash in between perhaps twice."""
        over = [found for found in self._store.expired("access_request") if isinstance(found, AccessRequest)]
        self._told &= {found.name for found in over}
        new = [found for found in over if found.name not in self._told]
        if not new:
            return
        await self._journal.write(
            *(
                self._journal.event(
                    ACCESS_REQUEST_EXPIRE,
                    id=found.name,
                    user=found.spec.user,
                    state=found.spec.state,
                )
                for found in new
            )
        )
        self._told |= {found.name for found in new}
