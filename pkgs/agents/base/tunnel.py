"""Tunnels of an agent: it dials every proxy of the cluster, and the proxies ask it for data connections.

    per proxy address:  dial -> OpenTunnel stream -> obey dial requests -> (lost or silent) -> wait -> dial
    per data connection: dial -> DataHello -> (spare: wait) -> DialHeader -> the user's stream

The configured proxy comes first; the others are learnt from the cluster's state, so each proxy instance has
its own tunnel. TLS ends here: the service gets one end of a plain socket pair, the other is relayed. Where
streams are `bare`, for they are TLS themselves, the tunnel's own TLS ends with the header (ADR 135).
"""

from __future__ import annotations

import asyncio
import logging
import socket
import ssl
from collections.abc import Awaitable, Callable, Iterable
from typing import Protocol

from pkgs.agents.base.limits import (
    CONNECT_S,
    DATA_DIALS_AT_ONCE,
    HEADER_LIFE_S,
    REDIAL_FIRST_S,
    REDIAL_MOST_S,
    SILENCE_S,
)
from pkgs.common.api.tunnel import DataHello, DialHeader, OpenTunnel
from pkgs.common.errors import AccessError, TrustError, UnavailableError
from pkgs.common.membership.identity import HostIdentity
from pkgs.common.net.dial import dial_tls, split_host_port
from pkgs.common.net.framing import encode_frame, read_frame
from pkgs.common.net.relay import relay
from pkgs.common.net.stream import Stream, adopt
from pkgs.common.net.tls import client_context
from pkgs.common.pki.identity import SystemRole
from pkgs.common.pki.trust import Trust
from pkgs.common.pki.x509 import role_dns_name, verify_peer
from pkgs.common.rpc.client import Endpoint, RpcClient
from pkgs.common.runtime.backoff import Backoff

_CONTROL = "teleport-reversetunnel"
_DATA = "teleport-reversetunnel-data"
_PROXY_NAME = role_dns_name(SystemRole.PROXY)
_PROXY_PORT = 3080

Divert = Callable[[Stream, DialHeader], Awaitable[bool]]
"""Looks at a user's stream first. True: it was served to its end; False: nothing of it was taken."""
Serve = Callable[[socket.socket, DialHeader], Awaitable[None]]
"""Takes a user's stream; closes the socket when it is done with it. Raises AccessError to refuse."""


class Membership(Protocol):
    """What tunnels need of the agent's membership."""

    @property
    def identity(self) -> HostIdentity: ...

    @property
    def trust(self) -> Trust: ...


class Tunnels:
    """Keeps a tunnel to every proxy."""

    def __init__(
        self,
        membership: Membership,
        services: list[str],
        serve: Serve,
        now: Callable[[], float],
        log: logging.Logger,
        on_change: Callable[[], None],
        divert: Divert | None = None,
        *,
        bare: bool = False,
    ) -> None:
        self._membership = membership
        self.services = services
        self._serve = serve
        self._now = now
        self.log = log
        self._on_change = on_change
        self._divert = divert
        self._bare = bare
        self._contexts: dict[str, ssl.SSLContext] = {}
        self._contexts_for: tuple[HostIdentity, Trust] | None = None
        self._links: dict[str, tuple[_ProxyLink, asyncio.Task[None]]] = {}
        self._configured: tuple[str, ...] = ()
        self._streams: set[asyncio.Task[None]] = set()
        self._stopped = False

    @property
    def proxy_ids(self) -> list[str]:
        """Host ids of the proxies that tunnels are up to."""
        return sorted({link.host_id for link, _ in self._links.values() if link.host_id})

    def configure(self, addrs: Iterable[str], discovered: Iterable[tuple[str, str]]) -> None:
        """Hold tunnels to the addresses of the configuration, and to every discovered proxy (host id and
        address) that none of these turned out to be. May be called again at any change; holds none after
        `stop_accepting`."""
        if self._stopped:
            return
        self._configured = tuple(_with_port(addr) for addr in addrs)
        reached = {self._links[addr][0].host_id for addr in self._configured if addr in self._links}
        wanted = list(self._configured)
        wanted += [_with_port(addr) for host_id, addr in discovered if addr and host_id not in reached]
        for addr in set(self._links) - set(wanted):
            _, task = self._links.pop(addr)
            task.cancel()
        for addr in wanted:
            if addr not in self._links:
                link = _ProxyLink(self, addr)
                self._links[addr] = (link, asyncio.create_task(link.run(), name=f"tunnel to {addr}"))

    async def stop_accepting(self) -> None:
        """End the control connections, for good: proxies send no new streams. Streams in use go on."""
        self._stopped = True
        tasks = [task for _, task in self._links.values()]
        self._links.clear()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def close(self) -> None:
        """End everything."""
        await self.stop_accepting()
        for task in list(self._streams):
            task.cancel()
        await asyncio.gather(*self._streams, return_exceptions=True)

    # What a link needs.

    def context(self, alpn: str) -> ssl.SSLContext:
        """Made anew with each identity and trust, so that renewed certificates and authorities are used at
        once."""
        identity, trust = self._membership.identity, self._membership.trust
        if self._contexts_for != (identity, trust):
            self._contexts, self._contexts_for = {}, (identity, trust)
        if alpn not in self._contexts:
            self._contexts[alpn] = client_context(
                roots_pem=trust.tls_roots_pem("host"),
                cert_pem=identity.tls_cert,
                key_pem=identity.tls_private_pem,
                alpn=(alpn,),
            )
        return self._contexts[alpn]

    def proxy_behind(self, certificate: bytes | None) -> str:
        """Host id of the proxy that shows this certificate. Raises TrustError unless it is a proxy."""
        if certificate is None:
            raise TrustError("the proxy showed no certificate")
        identity = verify_peer(certificate, trust=self._membership.trust, now=self._now())
        if not identity.is_host(SystemRole.PROXY):
            raise TrustError("the server is a host of the cluster, but not a proxy")
        return identity.host_id

    def is_elsewhere(self, host_id: str, link: _ProxyLink) -> bool:
        """Whether another address reaches the same proxy already."""
        return any(other is not link and other.host_id == host_id for other, _ in self._links.values())

    def is_configured(self, addr: str) -> bool:
        return addr in self._configured

    def changed(self) -> None:
        self._on_change()

    def carry(self, addr: str, dial_id: str, slots: asyncio.Semaphore) -> None:
        """Dial a data connection in the background."""
        task = asyncio.create_task(self._carry(addr, dial_id, slots), name=f"tunnel data to {addr}")
        self._streams.add(task)
        task.add_done_callback(self._streams.discard)

    async def _carry(self, addr: str, dial_id: str, slots: asyncio.Semaphore) -> None:
        try:
            async with slots:
                stream = await dial_tls(
                    addr, self.context(_DATA), server_hostname=_PROXY_NAME, deadline_s=CONNECT_S
                )
            try:
                await self._serve_stream(stream, dial_id)
            finally:
                stream.abort()
        except (AccessError, OSError) as problem:
            self.log.debug("a data connection ended: %s", problem, extra={"proxy": addr})

    async def _serve_stream(self, stream: Stream, dial_id: str) -> None:
        self.proxy_behind(stream.peer_der)
        stream.write(encode_frame(DataHello(dial_id=dial_id)))
        if self._bare:
            stream.shed_writing()
        await stream.drain()
        try:
            async with asyncio.timeout(HEADER_LIFE_S):
                header = await read_frame(stream, DialHeader)
                if self._bare:
                    await stream.shed_reading()
        except TimeoutError:
            return
        if self._divert is not None and await self._divert(stream, header):
            return
        ours, theirs = socket.socketpair()
        ours.setblocking(False)
        try:
            await self._serve(theirs, header)
        except BaseException:
            ours.close()
            raise
        await relay(stream, await adopt(ours))


class _ProxyLink:
    """The control connection to one address."""

    def __init__(self, tunnels: Tunnels, addr: str) -> None:
        self.host_id = ""
        self._tunnels = tunnels
        self._addr = addr
        self._log = tunnels.log
        self._backoff = Backoff(REDIAL_FIRST_S, REDIAL_MOST_S)
        self._slots = asyncio.Semaphore(DATA_DIALS_AT_ONCE)

    async def run(self) -> None:
        while True:
            try:
                await self._hold()
            except (AccessError, OSError) as problem:
                self._log.info("tunnel is down: %s", problem, extra={"proxy": self._addr})
            finally:
                if self.host_id:
                    self.host_id = ""
                    self._tunnels.changed()
            await asyncio.sleep(self._backoff.next())

    async def _hold(self) -> None:
        host, port = split_host_port(self._addr)
        client = RpcClient(
            Endpoint(
                host=host,
                port=port,
                ssl_context=lambda: self._tunnels.context(_CONTROL),
                server_hostname=_PROXY_NAME,
            ),
            log=self._log,
        )
        try:
            await client.connect(CONNECT_S)
            host_id = self._tunnels.proxy_behind(client.peer_certificate())
            if self._tunnels.is_elsewhere(host_id, self) and not self._tunnels.is_configured(self._addr):
                raise UnavailableError("this proxy is reached by another address")
            requests = client.stream(OpenTunnel(services=self._tunnels.services))
            while True:
                async with asyncio.timeout(SILENCE_S):
                    request = await anext(requests, None)
                if request is None:
                    raise UnavailableError("the proxy ended the tunnel")
                if not self.host_id:
                    self.host_id = host_id
                    self._backoff.reset()
                    self._log.info("tunnel is up", extra={"proxy": self._addr})
                    self._tunnels.changed()
                if not request.ping:
                    self._tunnels.carry(self._addr, request.dial_id, self._slots)
        except TimeoutError:
            raise UnavailableError("no sign of life from the proxy") from None
        finally:
            await client.close()


def _with_port(addr: str) -> str:
    host, port = split_host_port(addr, _PROXY_PORT)
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
