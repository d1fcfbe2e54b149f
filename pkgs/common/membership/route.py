"""The way from this host to the Auth Service, as the configuration says, and dialling along it.

    local    the Auth Service runs on this host with the same data dir: join by its socket, call by its port
    direct   teleport.auth_server: its TLS port
    proxy    teleport.proxy_server: the same TLS connection, relayed by the proxy without being opened

Whichever way, the connection ends at the Auth Service, which proves itself by the host authority.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable
from pathlib import Path

import msgspec

from pkgs.common.errors import InputError, ProtocolError, UnavailableError
from pkgs.common.membership.identity import HostIdentity
from pkgs.common.net.dial import dial_transport
from pkgs.common.net.sockets import join_host_port, split_host_port
from pkgs.common.net.tls import client_context
from pkgs.common.pki.identity import SystemRole
from pkgs.common.pki.trust import Trust
from pkgs.common.pki.x509 import role_dns_name
from pkgs.common.rpc.client import Dial
from pkgs.common.runtime import paths
from pkgs.common.runtime.config import Config

AUTH_NAME = role_dns_name(SystemRole.AUTH)
ALPN_AUTH = "teleport-auth@"
"""Followed by the cluster's name; by nothing when the joiner does not know it yet."""

_ANY_ADDRESS = {"": "127.0.0.1", "0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104 - read, not bound


class Route(msgspec.Struct, frozen=True, kw_only=True):
    """Where the Auth Service is to be found."""

    addrs: tuple[str, ...]
    """`host:port` to dial, tried in turn."""
    by_proxy: bool = False
    join_socket: Path | None = None
    """The administrator's socket of an Auth Service on this host."""

    def __str__(self) -> str:
        way = "the proxy " if self.by_proxy else "the Auth Service "
        return way + ", ".join(self.addrs)

    def alpn(self, cluster_name: str) -> tuple[str, ...]:
        return (ALPN_AUTH + cluster_name,)


def route_of(config: Config) -> Route:
    """The way the configuration names; InputError when it names none."""
    if config.auth_service.enabled:
        host, port = split_host_port(config.auth_service.listen_addr)
        local = join_host_port(_ANY_ADDRESS.get(host, host), port)
        return Route(addrs=(local,), join_socket=paths.auth_socket(config.data_dir))
    if config.auth_addrs:
        return Route(addrs=config.auth_addrs)
    if config.proxy_addr:
        return Route(addrs=(config.proxy_addr,), by_proxy=True)
    raise InputError(
        "the configuration names neither teleport.auth_server nor teleport.proxy_server",
        hint="set one of them, or use --auth-server or --proxy-server",
    )


def dialler(route: Route, context: Callable[[], ssl.SSLContext]) -> Dial:
    """Dials the first address that answers; the one that did comes first next time. `context` is asked at
    every dial, so that renewed certificates and authorities are used."""
    addrs = list(route.addrs)

    async def dial(
        factory: Callable[[], asyncio.Protocol],
    ) -> tuple[asyncio.BaseTransport, asyncio.BaseProtocol]:
        failure: UnavailableError | None = None
        for at, addr in enumerate(addrs):
            try:
                made = await dial_transport(addr, context(), factory, server_hostname=AUTH_NAME)
            except UnavailableError as error:
                failure = error
                continue
            except ProtocolError as error:
                # A proxy that cannot reach the Auth Service, or one that is just stopping, ends the
                # connection in the middle of the handshake: worth another try.
                failure = UnavailableError(f"no TLS connection by {addr}", detail=str(error.detail))
                continue
            addrs[:] = addrs[at:] + addrs[:at]
            return made
        raise failure or UnavailableError("there is no address to dial")

    return dial


def unverified_context(route: Route) -> ssl.SSLContext:
    """Believes anybody: only for asking for the host authority, which is then checked against the CA pin."""
    return client_context(roots_pem=None, alpn=route.alpn(""))


def anonymous_context(route: Route, roots_pem: str, cluster_name: str = "") -> ssl.SSLContext:
    """Believes these host authorities and shows no certificate."""
    return client_context(roots_pem=roots_pem, alpn=route.alpn(cluster_name))


def member_context(route: Route, identity: HostIdentity, trust: Trust) -> ssl.SSLContext:
    """A member's: shows its certificate, and believes the host authorities alone."""
    return client_context(
        roots_pem=trust.tls_roots_pem("host"),
        cert_pem=identity.tls_cert,
        key_pem=identity.tls_private_pem,
        alpn=route.alpn(identity.cluster_name),
    )
