"""The tunnels of a service that is a member of the cluster: to which proxies, and whether one is reached."""

from __future__ import annotations

from collections.abc import Callable

from pkgs.agents.base.tunnel import Divert, Serve, Tunnels
from pkgs.common.membership.identity import HostIdentity
from pkgs.common.membership.member import Member
from pkgs.common.net.dial import split_host_port
from pkgs.common.pki.trust import Trust
from pkgs.common.runtime.process import Process

WILDCARDS = ("", "0.0.0.0", "::")  # noqa: S104 - compared with, not bound


class _Membership:
    """The view of the membership that tunnels take."""

    def __init__(self, member: Member) -> None:
        self._member = member

    @property
    def identity(self) -> HostIdentity:
        return self._member.identity

    @property
    def trust(self) -> Trust:
        return self._member.cache.trust


class Links:
    """Tunnels to every proxy of the cluster, where the service is reached by them (`used`). Its owner passes
    changes of the cluster to `changed`, with an empty kind for the first time."""

    def __init__(
        self,
        process: Process,
        member: Member,
        services: list[str],
        serve: Serve,
        on_change: Callable[[], None],
        divert: Divert | None = None,
        *,
        used: bool = True,
        bare: bool = False,
    ) -> None:
        self._config = process.config
        self._member = member
        self._on_change = on_change
        self.used = used
        self._readiness = process.readiness.component("tunnels") if used else None
        self._tunnels = Tunnels(
            _Membership(member),
            services,
            serve,
            process.clock.now,
            process.component_log("tunnel"),
            self._tunnels_changed,
            divert,
            bare=bare,
        )

    @property
    def proxy_ids(self) -> list[str]:
        """Host ids of the proxies that tunnels are up to."""
        return self._tunnels.proxy_ids if self.used else []

    def changed(self, kind: str) -> None:
        """Something of this kind has changed; empty: anything may have."""
        if self.used and kind in ("", "proxy"):
            self._find_proxies()

    async def stop_accepting(self) -> None:
        """No new streams; those in use go on."""
        await self._tunnels.stop_accepting()

    async def close(self) -> None:
        await self._tunnels.close()

    def _find_proxies(self) -> None:
        config, proxies = self._config, self._member.cache.proxies
        configured = [config.proxy_addr] if config.proxy_addr else []
        if not configured and config.proxy_service.enabled:
            host, port = split_host_port(config.proxy_service.web_listen_addr, 3080)
            configured = [f"{'127.0.0.1' if host in WILDCARDS else host}:{port}"]
        discovered = [
            (proxy.name, next(iter(proxy.spec.public_addrs), proxy.spec.addr)) for proxy in proxies.values()
        ]
        self._tunnels.configure(configured, discovered)

    def _tunnels_changed(self) -> None:
        if self._readiness is not None:
            if self._tunnels.proxy_ids:
                self._readiness.ok()
            else:
                self._readiness.degraded("no tunnel to any proxy")
        self._find_proxies()
        self._on_change()
