"""A local port that leads to a database, through the proxy to its agent.

With a certificate each connection gets TLS as its user: whoever reaches the port is that user. So it listens
on loopback only, and takes nothing from other users of this machine. Without, it is a plain pipe to the
proxy, and the client does its own TLS.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
import sys
import time
from collections.abc import Callable

from pkgs.clients.tsh.connections.dial import roots
from pkgs.clients.tsh.databases.files import Held
from pkgs.clients.tsh.databases.limits import ACCEPT_AGAIN_S, CONNECTIONS, DIAL_S
from pkgs.clients.tsh.databases.owner import is_own
from pkgs.clients.tsh.profile.login import Login
from pkgs.common.errors import AccessError, DeniedError, UnavailableError
from pkgs.common.net.dial import dial_tcp, dial_tls
from pkgs.common.net.relay import relay
from pkgs.common.net.stream import Stream, adopt
from pkgs.common.net.tls import client_context
from pkgs.common.output.sanitize import inert

AGENT_DOMAIN = "db.teleport.cluster.local"
"""Below it stands the name of the database: the proxy routes by it, and the agent's certificate is for it."""


class LocalPort:
    """Listens from `open` until `close`."""

    def __init__(
        self, login: Login, service: str, held: Callable[[], Held] | None, *, addr: str = ""
    ) -> None:
        """`held` gives the certificate for a connection that comes now; None: a plain pipe, to
        `addr` or by default the proxy's public port."""
        self._login = login
        self._addr = addr
        self._service = service
        self._held = held
        self._listening: socket.socket | None = None
        self._accepting: asyncio.Task[None] | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self.port = 0

    def open(self, host: str, port: int, *, remembered: int = 0) -> None:
        """Listen; on the remembered port where none is asked for and that one is free. Raises
        UnavailableError."""
        for wanted in [port] if port or not remembered else [remembered, 0]:
            try:
                self._listening = _listen(host, wanted)
                break
            except OSError as problem:
                if wanted and wanted == remembered and not port:
                    continue
                raise UnavailableError(
                    f"cannot listen on {host}:{wanted}: {problem.strerror}", hint="choose another port"
                ) from problem
        assert self._listening is not None
        self.port = int(self._listening.getsockname()[1])
        self._accepting = asyncio.create_task(self._accept(self._listening))

    async def close(self) -> None:
        tasks = [*self._tasks, *([self._accepting] if self._accepting is not None else [])]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        if self._listening is not None:
            self._listening.close()

    async def _accept(self, listening: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        while True:
            try:
                sock, _ = await loop.sock_accept(listening)
            except OSError as problem:
                # Out of descriptors, perhaps: those that are open go on, and some will end.
                sys.stderr.write(f"tsh: database {inert(self._service)}: {problem.strerror}\n")
                await asyncio.sleep(ACCEPT_AGAIN_S)
                continue
            if len(self._tasks) >= CONNECTIONS or not self._may(sock):
                sock.close()
                continue
            task = asyncio.create_task(self._serve(sock))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    def _may(self, sock: socket.socket) -> bool:
        try:
            may = self._held is None or is_own(sock)
        except OSError:
            return False  # it has gone already
        if not may:
            sys.stderr.write("tsh: a connection of another user of this machine is refused\n")
        return may

    async def _serve(self, sock: socket.socket) -> None:
        client = await adopt(sock)
        try:
            there = await self._dial()
        except AccessError as problem:
            client.abort()
            sys.stderr.write(f"tsh: database {inert(self._service)}: {inert(str(problem))}\n")
            return
        except BaseException:
            client.abort()
            raise
        await relay(client, there)

    async def _dial(self) -> Stream:
        if self._held is None:
            addr = self._addr or self._login.proxy_addr
            return await adopt(await dial_tcp(addr, deadline_s=DIAL_S))
        held = self._held()
        if held.expires_at <= time.time():
            # The agent would close without a word that its client could read.
            raise DeniedError("the certificate has expired", hint=f"run 'tsh db login {self._service}'")
        context = tls_context(self._login, held)
        return await dial_tls(
            self._login.proxy_addr,
            context,
            server_hostname=f"{self._service}.{AGENT_DOMAIN}",
            deadline_s=DIAL_S,
        )


def tls_context(login: Login, held: Held) -> ssl.SSLContext:
    """TLS to the agent as the user of this certificate: only an agent of databases of the cluster is
    believed, whatever the proxy says."""
    cert_pem, key_pem = held.pems()
    return client_context(
        roots_pem=roots(login),
        cert_pem=cert_pem.decode(),
        key_pem=key_pem,
        alpn=(f"teleport-{held.protocol}",),
    )


def _listen(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    sock = socket.socket(family, socket.SOCK_STREAM)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind((host, port))
        sock.listen()
        sock.setblocking(False)
    except BaseException:
        sock.close()
        raise
    return sock
