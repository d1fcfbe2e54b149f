"""Those who have not proved yet who they are: bounded, and the oldest gives way (attacks A42, A54).

Anybody can be a stranger, as often as they like. So strangers take no place from people who are known, and a
flood of silent ones keeps nobody out who speaks.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from pkgs.common.net.penalties import source_of


class Strangers:
    def __init__(self, most: int, most_of_address: int) -> None:
        self._most = most
        self._most_of_address = most_of_address
        self._waiting: dict[asyncio.Timeout, str] = {}
        """The longest there first; and from where."""

    @asynccontextmanager
    async def place(self, ip: str, deadline_s: float) -> AsyncIterator[None]:
        """For as long as it takes to get known. Raises TimeoutError after the deadline, or when the place is
        given to somebody else."""
        source = source_of(ip)
        self._make_room(source)
        async with asyncio.timeout(deadline_s) as deadline:
            self._waiting[deadline] = source
            try:
                yield
            finally:
                self._waiting.pop(deadline, None)

    def _make_room(self, source: str) -> None:
        of_address = [one for one, whence in self._waiting.items() if whence == source]
        if len(of_address) >= self._most_of_address:
            self._send_away(of_address[0])
        elif len(self._waiting) >= self._most:
            self._send_away(next(iter(self._waiting)))

    def _send_away(self, deadline: asyncio.Timeout) -> None:
        del self._waiting[deadline]
        deadline.reschedule(asyncio.get_running_loop().time())
