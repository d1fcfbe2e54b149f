"""The ports of a proxy: what is served where, under the same limits everywhere."""

from __future__ import annotations

import logging

from pkgs.common.net.limits import ListenerLimits
from pkgs.common.net.listener import Greet, Listener, OnConnection, bind
from pkgs.common.net.proxyproto.header import PlainHeaderReader
from pkgs.common.runtime.config import Config
from pkgs.proxy import addresses
from pkgs.proxy.router import Router
from pkgs.proxy.web.api import Addresses


class Ports:
    def __init__(self, config: Config, log: logging.Logger) -> None:
        self._config = config
        self._log = log
        self._listeners: list[Listener] = []
        self.shown = Addresses(web_listen="")
        """As clients are told."""

    def open(self, router: Router, greet_mysql: Greet) -> None:
        """Take every port; nobody is served before `start`. Raises AccessError naming one that is taken."""
        proxy = self._config.proxy_service
        web = self._open(proxy.web_listen_addr, router.serve, postgres=True)
        tunnel = self._open(proxy.tunnel_listen_addr, router.serve, postgres=True)
        ssh = self._open(proxy.listen_addr, router.serve_plain_ssh, hello=False)
        mysql = self._open(proxy.mysql_listen_addr, router.serve_mysql, greet=greet_mysql)
        self.shown = addresses.shown(self._config, web, ssh, tunnel, mysql)
        self._log.info("listening", extra={"web": web, "ssh": ssh, "tunnel": tunnel, "mysql": mysql})

    def _open(
        self,
        addr: str,
        serve: OnConnection,
        *,
        hello: bool = True,
        postgres: bool = False,
        greet: Greet | None = None,
    ) -> str:
        if not addr:
            return ""
        most = self._config.teleport.connection_limits.max_connections
        listener = Listener(
            bind(addr),
            serve,
            hello=hello,
            postgres=postgres,
            greet=greet,
            limits=ListenerLimits(per_source=most) if most else ListenerLimits(),
            verify_proxy=PlainHeaderReader() if self._config.proxy_service.proxy_protocol == "on" else None,
            log=self._log,
        )
        self._listeners.append(listener)
        return listener.addresses[0]

    @property
    def addresses(self) -> list[str]:
        """`ip:port` of everything that is listened on."""
        return [addr for listener in self._listeners for addr in listener.addresses]

    @property
    def connections(self) -> int:
        return sum(listener.connections for listener in self._listeners)

    def start(self) -> None:
        for listener in self._listeners:
            listener.start()

    def stop_accepting(self) -> None:
        """Connections that exist go on."""
        for listener in self._listeners:
            listener.stop_accepting()

    async def close(self) -> None:
        """End every connection."""
        for listener in self._listeners:
            await listener.close()
