"""What one connection holds outside itself, and gives back at its end: one of its user's places in the
cluster, the account of this host, lines in the host's records of logins.
"""

from __future__ import annotations

import pwd
from collections.abc import Callable

from pkgs.agents.base.leases import Leases
from pkgs.agents.ssh.hostusers.keeper import HostUsers
from pkgs.agents.ssh.hostusers.wanted import Wanted
from pkgs.agents.ssh.messages import OnTerminal
from pkgs.agents.ssh.records.book import Book, LoggedIn
from pkgs.common.api.semaphores import AcquireLease
from pkgs.common.errors import ProtocolError


class Holds:
    def __init__(self, leases: Leases, host_users: HostUsers | None, book: Book) -> None:
        self._leases = leases
        self._host_users = host_users
        self._book = book
        self._lease = ""
        self._account = ""
        self._terminals: dict[int, LoggedIn] = {}

    async def take_place(
        self, user: str, most: int, blob: bytes, login: str, source: str, end: Callable[[str], None]
    ) -> None:
        """One of the connections that this user may have in the whole cluster. Raises
        TooManyConnectionsError."""
        if self._lease:  # of a login that was refused after all
            self._leases.release(self._lease)
            self._lease = ""

        def asking(lease_id: str) -> AcquireLease:
            return AcquireLease(lease_id=lease_id, certificate=blob, login=login, client_addr=source)

        self._lease = await self._leases.acquire(user, most, asking, end)

    async def take_account(self, login: str, wanted: Wanted | None) -> None:
        """The account of this host, made if the roles say so. Raises DeniedError, UnavailableError."""
        if self._host_users is not None and await self._host_users.claim(self, login, wanted):
            self._account = login

    def on_terminal(self, login: str, message: OnTerminal, source: str) -> None:
        """Raises ProtocolError for a second terminal of one session."""
        if message.channel in self._terminals:
            raise ProtocolError("a session has one terminal")
        try:
            uid = pwd.getpwnam(login).pw_uid
        except KeyError:
            return  # the account went meanwhile
        found = self._book.login(login, uid, message.terminal, message.pid, source)
        if found is not None:
            self._terminals[message.channel] = found

    def off_terminal(self, channel: int) -> None:
        if found := self._terminals.pop(channel, None):
            self._book.logout(found)

    def release(self) -> None:
        """The connection is over."""
        for channel in list(self._terminals):
            self.off_terminal(channel)
        if self._lease:
            self._leases.release(self._lease)
        if self._account and self._host_users is not None:
            self._host_users.release(self, self._account)
