"""The audit of good certificates used from where they may not be: the sign of one that was stolen."""

from __future__ import annotations

import asyncio
import logging

from pkgs.auth import limits
from pkgs.auth.audit.journal import Journal
from pkgs.common.errors import AccessError, DeniedError
from pkgs.common.events import codes
from pkgs.common.events.types import Event
from pkgs.common.net.penalties import RateLimit
from pkgs.common.pki.identity import Identity
from pkgs.common.pki.source import source_of

_log = logging.getLogger("auth.rpc")


class Misplaced:
    """Writes an event for each refusal, but not without end for one source."""

    def __init__(self, journal: Journal, writes: set[asyncio.Task[None]]) -> None:
        self._journal = journal
        self._writes = writes
        """What is being written; to be waited for before the log closes."""
        self._rate = RateLimit(limits.GUESSES_PER_MINUTE, limits.GUESSES_BURST)

    def refused(self, identity: Identity, address: str, refusal: DeniedError) -> None:
        """Called while the connection is refused; does not wait."""
        _log.warning("%s", refusal, extra={"user": identity.name, "addr": address, "detail": refusal.detail})
        if not self._rate.allow(source_of(address)):
            return
        event = self._journal.event(
            codes.AUTH_FAIL,
            user=identity.name,
            success=False,
            error=f"{refusal.message}: {refusal.detail}",
            **{"addr.remote": address},
        )
        task = asyncio.create_task(self._write(event), name="audit a misplaced certificate")
        self._writes.add(task)
        task.add_done_callback(self._writes.discard)

    async def _write(self, event: Event) -> None:
        try:
            await self._journal.write(event)
        except AccessError as problem:
            _log.error("a refused connection is not audited: %s", problem)
