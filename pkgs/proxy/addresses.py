"""Under which addresses this proxy is reached, and which it must never be made to dial. Pure."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Sequence

from pkgs.common.errors import InputError
from pkgs.common.net.sockets import join_host_port, split_host_port
from pkgs.common.runtime.config import Config
from pkgs.proxy.connections.connector import DialPolicy
from pkgs.proxy.web.api import Addresses

DEFAULT_WEB_PORT = 3080


def is_wildcard(host: str) -> bool:
    return host in ("", "0.0.0.0", "::")  # noqa: S104 - compared, not bound


def is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def advertised(config: Config, bound: str) -> str:
    """A dialable form of an address that we listen on."""
    host, port = split_host_port(bound)
    if is_wildcard(host):
        host = config.teleport.advertise_ip or config.nodename
    return join_host_port(host, port)


def with_port(addrs: Sequence[str], bound: str) -> list[str]:
    """Public addresses, with the port we listen on where none is named."""
    port = split_host_port(bound)[1] or DEFAULT_WEB_PORT
    return [join_host_port(*split_host_port(addr, port)) for addr in addrs]


def shown(config: Config, web: str, ssh: str, tunnel: str, mysql: str) -> Addresses:
    """What `/webapi/ping` tells of the bound addresses (empty: there is none)."""
    proxy = config.proxy_service

    def first(addrs: Sequence[str], bound: str) -> str:
        return with_port(addrs, bound)[0] if addrs else ""

    return Addresses(
        web_listen=web,
        public=first(proxy.public_addrs, web),
        ssh_listen=ssh,
        ssh_public=first(proxy.ssh_public_addrs, ssh or web),
        tunnel_listen=tunnel,
        tunnel_public=first(proxy.tunnel_public_addrs, tunnel or web),
        mysql_listen=mysql,
        mysql_public=first(proxy.mysql_public_addrs, mysql) if mysql else "",
    )


def principals(config: Config) -> list[str]:
    """Names and addresses that the host certificate must carry, so that clients can verify it by them."""
    proxy = config.proxy_service
    named = [split_host_port(addr)[0] for addr in (*proxy.public_addrs, *proxy.ssh_public_addrs)]
    listens = split_host_port(proxy.web_listen_addr)[0]
    named += [config.teleport.advertise_ip, "" if is_wildcard(listens) else listens]
    return [name for name in dict.fromkeys(named) if name and not is_loopback(name)]


def own_names(config: Config) -> frozenset[str]:
    """Host names that mean this proxy, in lower case."""
    proxy = config.proxy_service
    named = (*proxy.public_addrs, *proxy.ssh_public_addrs, *proxy.mysql_public_addrs)
    return frozenset(split_host_port(addr)[0].lower() for addr in named) | {config.nodename.lower()}


def dial_policy(listening: Iterable[str], auth: Iterable[str]) -> DialPolicy:
    """Loopback targets only where we listen on loopback alone; our own ports and Auth's never."""
    forbidden: set[tuple[str, int]] = set()
    only_loopback = True
    for addr in listening:
        host, port = split_host_port(addr)
        only_loopback = only_loopback and is_loopback(host)
        forbidden |= {(host, port), ("127.0.0.1", port), ("::1", port)}
    for addr in auth:
        try:
            host, port = split_host_port(addr)
        except InputError:
            continue
        forbidden |= {(host, port), ("127.0.0.1", port), ("::1", port)}
    return DialPolicy(loopback=only_loopback, forbidden=frozenset(forbidden))
