"""The `proxy_service` section."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

from pkgs.common.runtime.config import checks
from pkgs.common.runtime.config.values import Problem, Section, as_list

_VERSION_MAX = 64
"""Characters of a server's version in a greeting."""


class KeyPair(Section, frozen=True, kw_only=True):
    """A certificate for the web port."""

    key_file: str
    """PEM private key."""
    cert_file: str
    """PEM certificate chain, leaf first."""


class ProxyService(Section, frozen=True, kw_only=True):
    """The Proxy Service: the one public port."""

    enabled: bool = True
    """Whether this host runs it."""
    web_listen_addr: str = "0.0.0.0:3080"
    """The one public TLS port: web, API, tunnels and relays by ALPN."""
    listen_addr: str = ""
    """A port for plain SSH clients (`ssh -J`); v1: 0.0.0.0:3023, later versions: none."""
    tunnel_listen_addr: str = ""
    """A port of its own for tunnels; v1: 0.0.0.0:3024, later versions: none."""
    mysql_listen_addr: str = ""
    """A port for MySQL clients that do their own TLS; v1: 0.0.0.0:3036, later versions: none."""
    public_addr: str | list[str] = []
    """`host:port` under which users reach the web port; the first one is put into links."""
    ssh_public_addr: str | list[str] = []
    """The same for the SSH port."""
    tunnel_public_addr: str | list[str] = []
    """The same for the tunnel port; empty: the web port."""
    mysql_public_addr: str | list[str] = []
    """The same for the MySQL port; empty: the web port's host."""
    mysql_server_version: str = ""
    """The version that MySQL clients are greeted with at that port; empty: a 5.7."""
    https_keypairs: list[KeyPair] = []
    """Certificates for the web port; empty: self-signed by the cluster."""
    https_key_file: str = ""
    """Older form of one pair: PEM private key."""
    https_cert_file: str = ""
    """Older form of one pair: PEM certificate chain."""
    https_keypairs_reload_interval: str = "0s"
    """How often the files are looked at again; `0s`: only at SIGHUP. All of them change or none."""
    proxy_protocol: Literal["", "on", "off"] = ""
    """PROXY headers on the listener: `on` demands, `off` refuses; empty: believed from proxies only."""
    trust_x_forwarded_for: bool = False
    """Believe that header; only behind a load balancer that sets it."""

    @property
    def public_addrs(self) -> tuple[str, ...]:
        """`public_addr` as a tuple."""
        return as_list(self.public_addr)

    @property
    def ssh_public_addrs(self) -> tuple[str, ...]:
        """`ssh_public_addr` as a tuple."""
        return as_list(self.ssh_public_addr)

    @property
    def tunnel_public_addrs(self) -> tuple[str, ...]:
        """`tunnel_public_addr` as a tuple."""
        return as_list(self.tunnel_public_addr)

    @property
    def mysql_public_addrs(self) -> tuple[str, ...]:
        """`mysql_public_addr` as a tuple."""
        return as_list(self.mysql_public_addr)

    @property
    def keypairs(self) -> tuple[KeyPair, ...]:
        """Both spellings together."""
        older = (
            [KeyPair(key_file=self.https_key_file, cert_file=self.https_cert_file)]
            if self.https_key_file or self.https_cert_file
            else []
        )
        return (*self.https_keypairs, *older)

    def problems(self, path: str) -> Iterator[Problem]:
        yield from checks.host_port(f"{path}.web_listen_addr", self.web_listen_addr)
        for name in ("listen_addr", "tunnel_listen_addr", "mysql_listen_addr"):
            yield from checks.maybe_host_port(f"{path}.{name}", getattr(self, name))
        for name in ("public_addr", "ssh_public_addr", "tunnel_public_addr", "mysql_public_addr"):
            for value in as_list(getattr(self, name)):
                yield from checks.host_port(f"{path}.{name}", value, port_needed=False)
        version = self.mysql_server_version
        if not (version.isascii() and version.isprintable() and len(version) <= _VERSION_MAX):
            found = f"{version[:_VERSION_MAX]!r}"
            yield Problem(f"{path}.mysql_server_version", found, "a version such as 8.0.40")
        if bool(self.https_key_file) != bool(self.https_cert_file):
            given, missing = (
                ("https_key_file", "https_cert_file")
                if self.https_key_file
                else ("https_cert_file", "https_key_file")
            )
            yield Problem(f"{path}.{given}", f"no {missing}", "both of them or https_keypairs")
        yield from checks.duration(
            f"{path}.https_keypairs_reload_interval", self.https_keypairs_reload_interval
        )
