"""One database of the file, from its first certificate to the end of the process.

opening -> open -> (the certificate ends soon: a new one) -> open
        -> trouble, told once -> tried again, ever more slowly -> open

The port stays open whatever comes: programs keep their address, and connect again when the trouble is over.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

from pkgs.clients.tsh.databases import files, listing
from pkgs.clients.tsh.databases.certificates import SPARE_S, Whom, held_or_obtained, prepare, still_does
from pkgs.clients.tsh.databases.clients import LOCAL
from pkgs.clients.tsh.databases.files import Held
from pkgs.clients.tsh.databases.port import LocalPort
from pkgs.clients.tsh.profile.login import Login
from pkgs.clients.tsh.up.file import DatabaseEntry
from pkgs.clients.tsh.up.limits import LOOK_S, RETRY_FIRST_S, RETRY_MOST_S
from pkgs.common.errors import AccessError, DeniedError


class Tunnel:
    """`show` is told of each change. The cluster is asked in threads but by one at a time (`turn`): what
    msgspec learns of a type at its first use, two threads must not teach it at once."""

    def __init__(
        self,
        entry: DatabaseEntry,
        current: Callable[[], Login],
        turn: asyncio.Lock,
        show: Callable[[Tunnel], None],
    ) -> None:
        self.entry = entry
        self.login: Login | None = None
        self.held: Held | None = None
        self.port = 0
        """What it listens on; 0: not yet."""
        self.problem = ""
        """Why it does not work now, and what to do."""
        self.tried = asyncio.Event()
        self._current = current
        self._turn = turn
        self._show = show
        self._local: LocalPort | None = None

    async def run(self) -> None:
        """Until cancelled."""
        pause_s = RETRY_FIRST_S
        try:
            while True:
                try:
                    async with self._turn:
                        login, held = await asyncio.to_thread(self._certify)
                    self._open(login, held)
                except AccessError as problem:
                    self._told(str(problem))
                    sleep_s, pause_s = pause_s, min(pause_s * 2, RETRY_MOST_S)
                else:
                    self._told("")
                    pause_s = RETRY_FIRST_S
                    sleep_s = min(max(held.expires_at - SPARE_S - time.time(), RETRY_FIRST_S), LOOK_S)
                await asyncio.sleep(sleep_s)
        finally:
            if self._local is not None:
                await self._local.close()

    def _certify(self) -> tuple[Login, Held]:
        """A login and a certificate that are good now. Asks the cluster only where the files don't do."""
        login = self._current()
        if self.held is not None:
            held = files.read(login, self.entry.db)
            if held is not None and still_does(login, held, self._whom):
                return login, held
        database = listing.named(listing.fetch(login, {}, []), self.entry.db)
        held = held_or_obtained(login, database, self._whom)
        if prepare(login, held).needs_code:
            raise DeniedError(
                "each session needs a one-time code", hint=f"use 'tsh proxy db --tunnel {database.name}'"
            )
        return login, held

    @property
    def _whom(self) -> Whom:
        entry = self.entry
        return Whom(entry.user, entry.name, None if entry.roles is None else tuple(entry.roles))

    def _open(self, login: Login, held: Held) -> None:
        self.login, self.held = login, held
        if self._local is not None:
            return
        local = LocalPort(login, self.entry.db, lambda: files.must(login, self.entry.db))
        remembered = files.port_of(login, self.entry.db)
        local.open(LOCAL, self.entry.port, remembered=remembered)
        if self.entry.port or not remembered:
            files.keep_port(login, self.entry.db, local.port)
        self._local, self.port = local, local.port

    def _told(self, problem: str) -> None:
        changed = not self.tried.is_set() or problem != self.problem
        self.problem = problem
        self.tried.set()
        if changed:
            self._show(self)
