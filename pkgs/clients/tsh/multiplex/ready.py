"""Connections to the proxy, with the login of this moment: some are kept ready while they are being used."""

from __future__ import annotations

import asyncio
import ssl
import time
from collections.abc import Callable
from pathlib import Path

from pkgs.clients.tsh.connections.dial import ALPN_DIAL, PROXY_NAME, roots
from pkgs.clients.tsh.multiplex.limits import DIAL_S, SPARE_S, SPARES
from pkgs.clients.tsh.profile.login import Expired, Login
from pkgs.common.errors import AccessError
from pkgs.common.net.dial import dial_tls
from pkgs.common.net.dial_blocking import client_context
from pkgs.common.net.stream import Stream


class Ready:
    """`find` reads the stored login; it is asked again whenever its files have changed. No TLS session is
    ever resumed: each connection shows the certificate of now."""

    def __init__(self, find: Callable[[], Login], dial_s: float = DIAL_S) -> None:
        self._find = find
        self._dial_s = dial_s
        self._login: Login | None = None
        self._context: ssl.SSLContext | None = None
        self._seen: tuple[int, ...] = ()
        self._spares: list[Stream] = []
        self._filling: set[asyncio.Task[None]] = set()

    def login(self) -> Login:
        """The stored login, fit for use. Raises AccessError: NotFoundError when there is none any more."""
        login = self._login
        if login is None or _versions(login) != self._seen:
            login = self._login = self._find()
            self._seen = _versions(login)
            self._context = None
            self._drop()
        if login.expires_at <= time.time():
            raise Expired(f"your login to {login.cluster} has expired", hint=login.renew_hint())
        return login

    async def take(self, *, fresh: bool = False) -> Stream:
        """A connection on which the proxy waits to be asked. Raises AccessError."""
        self.login()
        found: Stream | None = None
        while self._spares and not fresh and found is None:
            spare = self._spares.pop()
            if spare.peek_closed():
                spare.abort()
            else:
                found = spare
        while len(self._spares) + len(self._filling) < SPARES:
            task = asyncio.ensure_future(self._fill())
            self._filling.add(task)
            task.add_done_callback(self._filling.discard)
        return found or await self._dial()

    async def close(self) -> None:
        for task in tuple(self._filling):
            task.cancel()
        await asyncio.gather(*self._filling, return_exceptions=True)
        self._drop()

    async def _dial(self) -> Stream:
        login = self.login()
        if self._context is None:
            self._context = client_context(
                roots_pem=roots(login), cert_file=login.tls_cert, key_file=login.tls_key, alpn=ALPN_DIAL
            )
        return await dial_tls(
            login.proxy_addr, self._context, server_hostname=PROXY_NAME, deadline_s=self._dial_s
        )

    async def _fill(self) -> None:
        seen = self._seen
        try:
            spare = await self._dial()
        except AccessError:
            return  # whoever needs one dials for themselves, and is told why that fails
        if seen != self._seen:
            spare.abort()  # of an earlier login
            return
        self._spares.append(spare)
        asyncio.get_running_loop().call_later(SPARE_S, self._expire, spare)

    def _expire(self, spare: Stream) -> None:
        if spare in self._spares:
            self._spares.remove(spare)
            spare.abort()

    def _drop(self) -> None:
        spares, self._spares = self._spares, []
        for spare in spares:
            spare.abort()


def _versions(login: Login) -> tuple[int, ...]:
    """What changes when somebody logs in again, or out."""
    found = []
    for path in (login.tls_cert, login.tls_key, login.ca_file):
        try:
            found.append(Path(path).stat().st_mtime_ns)
        except FileNotFoundError:
            found.append(0)
    return tuple(found)
