"""How one connection ends: once, with a reason for the audit and a text for its user."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

from pkgs.common.errors import AccessError
from pkgs.common.events import codes
from pkgs.common.ssh.service.audit import Audit

LOST = "the connection was lost"


class Ending:
    """`hang_up` has the connection's process tell its user a text, and end."""

    def __init__(self, hang_up: Callable[[str], None], audit: Audit, log: logging.Logger) -> None:
        self.hang_up = hang_up
        self.why = ""
        """Empty while the connection goes on."""
        self.cut_off = False
        """Whether it was ended here, not by its client or its process."""
        self._audit = audit
        self._log = log
        self._writes: set[asyncio.Task[None]] = set()

    def end(self, text: str) -> None:
        """End the connection, unless it has ended; the text is for the user too."""
        if not self.why:
            self.cut(text, text)

    def cut(self, reason: str, text: str) -> None:
        """End it for a reason that the user need not know. One that has no login yet is not ended here."""
        if self._audit.parties is None:
            return
        self.why, self.cut_off = reason, True
        self.hang_up(text)
        task = asyncio.ensure_future(self._tell(reason))
        self._writes.add(task)
        task.add_done_callback(self._writes.discard)

    def gone(self) -> str:
        """The process has ended, whoever wanted it; why."""
        self.why = self.why or LOST
        return self.why

    async def told(self) -> None:
        """Wait until the audit has it."""
        if self._writes:
            await asyncio.wait(self._writes)

    async def _tell(self, reason: str) -> None:
        try:
            await self._audit.emit(codes.CLIENT_DISCONNECT, {"reason": reason})
        except AccessError as problem:
            self._log.error("the end of a connection is not audited: %s", problem)
