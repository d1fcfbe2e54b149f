"""A service as a member of the cluster: identity, connection to the Auth Service, view of the cluster, audit
events, heartbeat, and renewal of its certificates. The one way in which proxies and agents do all that.
"""

from __future__ import annotations

import asyncio
import logging
import math
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, TypeVar

import msgspec

from pkgs.common.api.audit import EmitEvents
from pkgs.common.api.join import RenewHostCerts
from pkgs.common.api.resources import Heartbeat
from pkgs.common.errors import AccessError
from pkgs.common.events.spool.emitter import SpoolEmitter
from pkgs.common.events.types import Event
from pkgs.common.membership import limits
from pkgs.common.membership.cache import KINDS_HOST, KINDS_PROXY, ClusterCache
from pkgs.common.membership.heartbeat import Heart
from pkgs.common.membership.identity import HostIdentity, HostKeys, store_identity, verify_host_certs
from pkgs.common.membership.join import JoinPlan, ensure_identity
from pkgs.common.membership.route import Route, dialler, member_context, route_of
from pkgs.common.pki.identity import SystemRole
from pkgs.common.resources.kinds import CertAuthority, Node, Proxy
from pkgs.common.rpc.client import RpcClient
from pkgs.common.runtime import paths
from pkgs.common.runtime.backoff import Backoff
from pkgs.common.runtime.process import Process

_CACHE_FILE = "cache.msgpack"
T = TypeVar("T")


class Member:
    """Made by `start`, ended by `close`."""

    def __init__(self, process: Process, route: Route, identity: HostIdentity, kinds: Sequence[str]) -> None:
        self._process = process
        self._route = route
        self._identity = identity
        self._log: logging.Logger = process.component_log("member")
        self._on_identity: list[Callable[[HostIdentity], None]] = []
        self._heart: Heart[Any] | None = None
        self._renewal: asyncio.Task[None] | None = None
        self._wanted_principals = tuple(identity.additional_principals)
        self.client = RpcClient(
            dialler(route, lambda: member_context(route, self._identity, self.cache.trust)),
            on_connected=self._connected,
            log=process.component_log("rpc"),
        )
        """The connection to the Auth Service, as this host."""
        self.cache = ClusterCache(
            self.client,
            kinds=kinds,
            cluster_name=identity.cluster_name,
            authorities=identity.authorities,
            file=paths.identity_dir(process.data_dir, identity.role.value) / _CACHE_FILE,
            clock=process.clock,
            log=process.component_log("cache"),
            component=process.readiness.component("cache"),
        )
        self.emitter = SpoolEmitter(
            paths.spool_dir(process.data_dir, process.name),
            self._deliver,
            log=process.component_log("audit"),
        )

    @classmethod
    async def start(
        cls,
        process: Process,
        role: SystemRole,
        *,
        watch: Sequence[str] | None = None,
        additional_principals: Sequence[str] = (),
    ) -> Member:
        """A member that knows the cluster. Waits as long as it takes for the first join and the first view
        of the cluster; after that, a start does without the Auth Service."""
        component = process.readiness.component("cache")
        route = route_of(process.config)
        plan = JoinPlan(
            config=process.config,
            route=route,
            role=role,
            additional_principals=tuple(additional_principals),
        )
        identity = await ensure_identity(plan, process.clock, process.component_log("join"))
        kinds = watch or (KINDS_PROXY if role is SystemRole.PROXY else KINDS_HOST)
        member = cls(process, route, identity, kinds)
        member._wanted_principals = plan.additional_principals
        try:
            await member.emitter.start()
            await member.cache.start()
            await member.cache.wait_ready()
        except BaseException:
            await member.close()
            raise
        component.ok()
        member._add_metrics()
        member.cache.on_change(member._authorities_changed)
        if member.cache.live:
            member._authorities_changed("cert_authority")
        member._renewal = asyncio.create_task(member._renew_loop(), name="renew-host-certs")
        return member

    def _add_metrics(self) -> None:
        metrics = self._process.metrics
        metrics.gauge_of(
            "cache_stale_seconds",
            "How long ago the view of the cluster was last known to be current; 0 while it is.",
            lambda: self.cache.stale_for_s,
        )
        metrics.gauge_of(
            "audit_spool_events",
            "Audit events on disk that wait for the Auth Service.",
            lambda: self.emitter.pending,
        )
        metrics.gauge_of(
            "host_certificate_expires_seconds",
            "Unix time at which the host certificate expires; infinite if it does not.",
            lambda: math.inf if self._identity.expires_at is None else self._identity.expires_at,
        )

    async def close(self) -> None:
        """End everything. Audit events that can't be delivered now stay on disk for the next start."""
        if self.cache.live:
            await self.emitter.flush(limits.CLOSE_FLUSH_S)
        if self._heart is not None:
            await self._heart.close()
        if self._renewal is not None:
            self._renewal.cancel()
            await asyncio.gather(self._renewal, return_exceptions=True)
        await self.emitter.close()
        await self.cache.close()
        await self.client.close()

    @property
    def identity(self) -> HostIdentity:
        """Keys and certificates as they are now; they change when renewed."""
        return self._identity

    def on_identity_change(self, callback: Callable[[HostIdentity], None]) -> None:
        """`callback(identity)` when certificates or authorities changed, for listeners that use them."""
        self._on_identity.append(callback)

    def start_heartbeat(self, make_server: Callable[[], Node | Proxy]) -> None:
        """Tell the cluster of this host from now on; `make_server` is asked every few seconds."""

        async def send(server: Node | Proxy) -> None:
            await self.client.call(
                Heartbeat(server=server, ttl_s=limits.HEARTBEAT_TTL_S), deadline_s=limits.HEARTBEAT_CALL_S
            )

        self.start_telling(make_server, send)

    def start_telling(self, make: Callable[[], T], send: Callable[[T], Awaitable[None]]) -> None:
        """The same for a service that tells something else of itself: `make` is asked every few seconds, and
        `send` called when its answer changed, else now and then."""
        if self._heart is not None:
            raise ValueError("the heartbeat has been started already")
        self._heart = Heart(
            make,
            send,
            clock=self._process.clock,
            log=self._process.component_log("heartbeat"),
            component=self._process.readiness.component("heartbeat"),
        )

    async def heartbeat_now(self) -> None:
        """Beat once and wait for it; raises when the cluster did not hear it."""
        if self._heart is None:
            raise ValueError("the heartbeat has not been started")
        await self._heart.beat()

    async def _deliver(self, events: list[Event]) -> None:
        await self.client.call(EmitEvents(events=events), deadline_s=limits.DELIVER_CALL_S)

    def _connected(self) -> None:
        self._log.debug("connected to the Auth Service", extra={"route": str(self._route)})

    # Certificates.

    def _authorities_changed(self, kind: str) -> None:
        """New authorities go into the stored identity: the next start must know them to find the cluster."""
        if kind != "cert_authority":
            return
        authorities = [r for r in self.cache.resources(kind) if isinstance(r, CertAuthority)]
        if authorities != self._identity.authorities:
            self._take(msgspec.structs.replace(self._identity, authorities=authorities))

    async def _renew_loop(self) -> None:
        backoff = Backoff(limits.RENEW_RETRY_FIRST_S, limits.RENEW_RETRY_LIMIT_S)
        while True:
            pause = limits.RENEW_CHECK_S
            if self._renewal_due():
                try:
                    await self.renew()
                    backoff.reset()
                except AccessError as error:
                    pause = backoff.next()
                    self._log.warning(
                        "host certificates could not be renewed: %s",
                        error,
                        extra={"detail": error.detail, "expires_at": self._identity.expires_at},
                    )
            await asyncio.sleep(pause)

    def _renewal_due(self) -> bool:
        """At half life, or when the configuration asks for other names than the certificates carry."""
        identity = self._identity
        return (
            self._process.clock.now() >= identity.renew_at
            or identity.node_name != self._process.config.nodename
            or tuple(identity.additional_principals) != self._wanted_principals
        )

    async def renew(self) -> None:
        """New keys and certificates for the same host and role; the connection is made anew with them."""
        old = self._identity
        host_keys = HostKeys.new()
        certs = await self.client.call(
            RenewHostCerts(
                node_name=self._process.config.nodename,
                ssh_public_key=host_keys.ssh.public_line,
                tls_public_key=host_keys.tls.public_pem,
                additional_principals=list(self._wanted_principals),
            ),
            deadline_s=limits.JOIN_CALL_S,
        )
        self._take(
            verify_host_certs(
                certs,
                host_keys,
                role=old.role,
                host_id=old.host_id,
                node_name=self._process.config.nodename,
                additional_principals=self._wanted_principals,
                now=self._process.clock.now(),
            )
        )
        self._log.info("host certificates renewed", extra={"expires_at": self._identity.expires_at})
        self.client.reconnect()

    def _take(self, identity: HostIdentity) -> None:
        try:
            store_identity(self._process.data_dir, identity)
        except OSError as error:
            self._log.error("the host identity cannot be stored: %s", error)
        self._identity = identity
        for callback in tuple(self._on_identity):
            callback(identity)
