"""What a connection to the public port is for: by ALPN, as the client said it in its hello."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
import ssl
from collections.abc import Callable, Collection, Iterator
from typing import Protocol

from pkgs.common.errors import AccessError
from pkgs.common.net.handshake import accept_tls
from pkgs.common.net.listener import Accepted
from pkgs.common.net.relay import relay
from pkgs.common.net.stream import adopt
from pkgs.common.pki.identity import Identity
from pkgs.common.rpc.server import RpcServer
from pkgs.proxy import limits
from pkgs.proxy.authrelay import AuthRelay
from pkgs.proxy.certificates import (
    ALPN_AUTH,
    ALPN_DATA,
    ALPN_DIAL,
    ALPN_SSH,
    ALPN_TUNNEL,
    ALPN_WEB,
    OwnContexts,
    WebCertificates,
)
from pkgs.proxy.connections.databases import DatabaseDoor, database_in
from pkgs.proxy.connections.dialgate import DialGate
from pkgs.proxy.connections.mysql import MysqlDoor
from pkgs.proxy.connections.tunnels import Tunnels
from pkgs.proxy.web.server import WebServer

_OURS = frozenset({ALPN_TUNNEL, ALPN_DATA, ALPN_DIAL, ALPN_SSH})
_OWN = _OURS | frozenset(ALPN_WEB)


class SshDoor(Protocol):
    """The SSH server of the proxy, for `ssh -J` and plain clients."""

    async def serve(self, sock: socket.socket, remote_addr: str) -> None: ...


def choose_protocol(alpn: tuple[str, ...]) -> str:
    """The first offer that we serve; the web when none is made; empty when none is ours."""
    if not alpn:
        return ALPN_WEB[0]
    return next((offer for offer in alpn if offer in _OWN or offer.startswith(ALPN_AUTH)), "")


def may_be_database(alpn: tuple[str, ...]) -> bool:
    """Whether these offers are such as clients of databases make: theirs, the web's (there are databases that
    speak it), or none; never one of our own protocols."""
    return not any(offer in _OURS or offer.startswith(ALPN_AUTH) for offer in alpn)


class Router:
    """Hands each connection to what serves it, and waits until it is over."""

    def __init__(
        self,
        *,
        contexts: Callable[[], OwnContexts],
        web_certificates: WebCertificates,
        web: WebServer,
        auth: AuthRelay,
        dial: DialGate,
        tunnels: Tunnels,
        rpc: RpcServer,
        ssh: SshDoor,
        databases: DatabaseDoor,
        mysql: MysqlDoor,
        own_names: Collection[str],
        verify: Callable[[bytes, str], Identity],
        log: logging.Logger,
    ) -> None:
        self._contexts = contexts
        self._web_certificates = web_certificates
        self._web = web
        self._auth = auth
        self._dial = dial
        self._tunnels = tunnels
        self._rpc = rpc
        self._ssh = ssh
        self._databases = databases
        self._mysql = mysql
        self._own_names = own_names
        self._verify = verify
        self._log = log
        self._sessions: set[asyncio.Task[None]] = set()

    async def drain(self, timeout_s: float) -> int:
        """Wait for the streams of users to end by themselves; how many are left. Nothing else is worth
        waiting for: agents and callers of the Auth Service dial anew."""
        if self._sessions:
            await asyncio.wait(set(self._sessions), timeout=timeout_s)
        return len(self._sessions)

    @contextlib.contextmanager
    def _session(self) -> Iterator[None]:
        task = asyncio.current_task()
        assert task is not None
        self._sessions.add(task)
        try:
            yield
        finally:
            self._sessions.discard(task)

    async def serve(self, accepted: Accepted) -> None:
        """One connection of the public port, until it is over."""
        hello = accepted.hello
        assert hello is not None
        protocol = choose_protocol(hello.alpn)
        database = database_in(hello.sni, self._own_names) if may_be_database(hello.alpn) else ""
        if database:
            with self._session():
                await self._databases.serve(accepted, database)
        elif accepted.postgres:
            accepted.sock.close()
        elif protocol in ALPN_WEB:
            await self._web.serve(accepted, self._web_certificates.context_for(hello.sni))
        elif protocol.startswith(ALPN_AUTH):
            await self._auth.serve(accepted, protocol.removeprefix(ALPN_AUTH))
        elif protocol == ALPN_DIAL:
            with self._session():
                await self._dial.serve(accepted)
        elif protocol == ALPN_TUNNEL:
            await self._rpc.serve_tls_socket(accepted.sock, self._contexts().tunnel, accepted.remote_ip)
        elif protocol == ALPN_DATA:
            await self._serve_data(accepted, self._contexts().data)
        elif protocol == ALPN_SSH:
            with self._session():
                await self._serve_ssh(accepted, self._contexts().ssh)
        else:
            accepted.sock.close()

    async def serve_plain_ssh(self, accepted: Accepted) -> None:
        """One connection of the SSH port, until it is over."""
        with self._session():
            await self._ssh.serve(accepted.sock, accepted.remote_addr)

    async def serve_mysql(self, accepted: Accepted) -> None:
        """One connection of the MySQL port, until it is over."""
        with self._session():
            await self._mysql.serve(accepted)

    async def _serve_data(self, accepted: Accepted, context: ssl.SSLContext) -> None:
        try:
            stream = await accept_tls(accepted.sock, context)
        except AccessError:
            return
        try:
            der = stream.peer_der
            if der is not None:
                await self._tunnels.serve_data(stream, self._verify(der, accepted.remote_ip))
        except (AccessError, TimeoutError) as exc:
            self._log.debug("data connection refused: %s", exc, extra={"addr": accepted.remote_ip})
        finally:
            stream.abort()

    async def _serve_ssh(self, accepted: Accepted, context: ssl.SSLContext) -> None:
        """The SSH server speaks over a plain socket: TLS ends here and is relayed to it."""
        try:
            stream = await accept_tls(accepted.sock, context)
        except AccessError:
            return
        ours, theirs = socket.socketpair()
        serving = asyncio.create_task(self._ssh.serve(theirs, accepted.remote_addr))
        try:
            await relay(stream, await adopt(ours), half_closed_s=limits.LINGER_S)
        finally:
            stream.abort()
            serving.cancel()
            await asyncio.wait((serving,))
