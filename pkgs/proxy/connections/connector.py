"""The one way from a verified user to an agent's stream, whatever door the user came in by.

`teleport-dial`, the SSH gate and whatever comes later call `connect_user`: the same checks, the same audit,
the same route. It decides only whether the user may see and be routed to the server; what they may do there
is the agent's decision, made again on its own.
"""

from __future__ import annotations

import ipaddress
import logging
import socket
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, replace

from pkgs.common.access.decide import decide
from pkgs.common.access.explaining.explain import why_not
from pkgs.common.access.joining import JOIN_LOGIN
from pkgs.common.access.locks import Interaction, lock_reason, lock_text, matching_lock
from pkgs.common.access.types import Decision, Environment, See, Subject
from pkgs.common.access.visiting import may_knock
from pkgs.common.api.tunnel import DialHeader
from pkgs.common.errors import AccessError, DeniedError, LockedError, NotFoundError, UnavailableError
from pkgs.common.events.codes import AUTH_FAIL, CLIENT_DISCONNECT, SESSION_CONNECT
from pkgs.common.events.format import new_event
from pkgs.common.events.types import Emitter
from pkgs.common.membership.cache import ClusterCache
from pkgs.common.net.dial import Resolved, dial_resolved, resolve
from pkgs.common.net.framing import encode_frame
from pkgs.common.net.proxyproto.signed import HeaderSigner
from pkgs.common.net.sockets import peer_of, split_host_port
from pkgs.common.net.stream import Stream, adopt
from pkgs.common.output.sanitize import inert
from pkgs.common.pki.identity import Identity
from pkgs.common.pki.source import check_source
from pkgs.common.resources.kinds import Node
from pkgs.common.resources.kinds.servers import OPENSSH
from pkgs.common.resources.kinds.settings import PROXY_MODES
from pkgs.common.runtime.clock import Clock
from pkgs.proxy import limits
from pkgs.proxy.connections.routing import choose, find, parse_target
from pkgs.proxy.connections.tunnels import Tunnels


@dataclass(frozen=True, slots=True)
class Connected:
    """A stream to an agent, at the point where the user's bytes begin."""

    stream: Stream
    node: Node


@dataclass(frozen=True, slots=True)
class DialPolicy:
    """Which registered addresses may be dialled directly (attack A20: an agent chooses what it registers)."""

    loopback: bool
    """Only where this proxy itself listens on loopback alone, as on a laptop."""
    forbidden: frozenset[tuple[str, int]]
    """Our own listeners and the Auth Service."""

    def check(self, addresses: Sequence[Resolved]) -> None:
        for _, address in addresses:
            ip = ipaddress.ip_address(address[0].partition("%")[0])
            ip = getattr(ip, "ipv4_mapped", None) or ip
            harmful = ip.is_link_local or ip.is_multicast or ip.is_unspecified or ip.is_reserved
            if harmful or (ip.is_loopback and not self.loopback) or (str(ip), address[1]) in self.forbidden:
                raise UnavailableError(
                    "the server's registered address is not one to connect to", detail=f"{ip}:{address[1]}"
                )


class Connector:
    def __init__(
        self,
        *,
        cache: ClusterCache,
        tunnels: Tunnels,
        emitter: Emitter,
        signer: Callable[[], HeaderSigner],
        policy: Callable[[], DialPolicy],
        terminate: Callable[[Node, str], Awaitable[Stream]],
        host_id: str,
        clock: Clock,
        log: logging.Logger,
    ) -> None:
        """`terminate` gives a stream on which this proxy stands for a server."""
        self._cache = cache
        self._tunnels = tunnels
        self._emitter = emitter
        self._signer = signer
        self._policy = policy
        self._terminate = terminate
        self._host_id = host_id
        self._clock = clock
        self._log = log

    async def connect_user(
        self,
        identity: Identity,
        target: str,
        *,
        client_addr: str,
        service: str = "ssh",
        cluster: str = "",
        login: str = "",
    ) -> Connected:
        """A stream to the server meant by `target`, with the agent told who is calling from where.

        `client_addr` is the user's `ip:port` as this proxy saw it. Raises AccessError for the user."""
        if cluster not in ("", self._cache.cluster_name):
            raise NotFoundError(f"cluster {cluster!r} is not known here")
        if service != "ssh":
            raise NotFoundError(f"service {service!r} is not served here")
        try:
            check_source(identity, split_host_port(client_addr)[0])
        except DeniedError as exc:
            # A certificate in the wrong hands: the one refusal that must not go unnoticed (attack A12).
            await self._emit_denied(identity, "", client_addr, login, (exc.detail or exc.message,))
            raise
        await self._check_locks(identity, client_addr, login)
        node = await self._route(identity, target, client_addr, login)
        if self._ends_here(node, login):
            stream = await self._terminate(node, client_addr)
        else:
            stream = await self.dial_agent(node, client_addr, service, target)
        try:
            await self._emit_connect(identity, node, client_addr, login)
        except BaseException:
            stream.abort()
            raise
        return Connected(stream, node)

    def still_allows(self, identity: Identity, node: Node, *, client_addr: str, login: str) -> Decision:
        """The decision about a stream that passes already, as it is now."""
        try:
            subject = Subject(identity, self._cache.roles_of(identity))
        except DeniedError as exc:
            return Decision(False, (exc.message, *exc.reasons))
        now_known = self._cache.nodes.get(node.name, node)
        env = self._environment(client_addr, live=True)
        return _may_reach(subject, now_known, login, env, visits=login == JOIN_LOGIN)

    async def _check_locks(self, identity: Identity, client_addr: str, login: str) -> None:
        """A locked user is told so whatever they ask for (attack A14)."""
        interaction = Interaction(identity, (self._host_id,), login)
        lock = matching_lock(self._cache.locks, interaction, self._clock.now())
        if lock is not None:
            await self._emit_denied(identity, "", client_addr, login, (lock_reason(lock),))
            raise LockedError(inert(lock_text(lock)), detail=lock_reason(lock))

    def _environment(self, client_addr: str, *, live: bool = False) -> Environment:
        cache = self._cache
        return Environment(
            now=self._clock.now(),
            source_addr=split_host_port(client_addr)[0],
            server_id=self._host_id,
            locks=cache.locks,
            locks_stale_s=cache.stale_for_s,
            auth_preference=cache.auth_preference,
            live=live,
        )

    async def _route(self, identity: Identity, text: str, client_addr: str, login: str) -> Node:
        cache = self._cache
        target = parse_target(text, cache.cluster_name)
        networking = cache.networking.spec
        found = find(target, cache.nodes.values(), networking)
        subject = Subject(identity, cache.roles_of(identity))
        env = self._environment(client_addr)
        # Whoever comes to join a session names its server by id, and need not see it.
        visits = login == JOIN_LOGIN and [node.name for node in found] == [target.host]
        decisions = [(node, _may_reach(subject, node, login, env, visits=visits)) for node in found]
        visible = [node for node, decision in decisions if decision]
        if found and not visible:
            reasons = tuple(dict.fromkeys(reason for _, decision in decisions for reason in decision.reasons))
            await self._emit_denied(identity, found[0].spec.hostname, client_addr, login, reasons)
            # A lock is told of only where there is something to see without it.
            unlocked = replace(env, locks=(), locks_stale_s=0.0)
            for node, decision in decisions:
                if decision.text and decide(subject, See(node, login), unlocked):
                    raise DeniedError(inert(decision.text), reasons=decision.reasons)
            hostname = found[0].spec.hostname
            if story := why_not(subject, See(found[0], login), env, f"see {hostname}"):
                raise DeniedError(f"access to {hostname} denied\n{story}", reasons=reasons)
        return choose(target, visible, networking, cache.cluster_name)

    def _ends_here(self, node: Node, login: str) -> bool:
        """Whether the user's SSH ends at this proxy. Who joins a session comes to an agent, which knows it;
        whoever only says so is recorded there."""
        if node.sub_kind == OPENSSH:
            return True
        return self._cache.recording_config.spec.mode in PROXY_MODES and login != JOIN_LOGIN

    async def dial_agent(
        self, node: Node, client_addr: str, service: str = "ssh", target: str = ""
    ) -> Stream:
        """A stream to an agent, which is told who is calling from where. Raises AccessError."""
        if self._tunnels.holds(node.name):
            stream = await self._tunnels.take(node.name)
            try:
                stream.write(
                    encode_frame(DialHeader(service=service, client_addr=client_addr, target=target))
                )
            except BaseException:
                stream.abort()
                raise
            return stream
        if node.spec.use_tunnel or not node.spec.addr:
            raise UnavailableError(
                f"server {node.spec.hostname!r} is not connected to this proxy now",
                hint="it reconnects by itself; try again in a moment",
            )
        return await self._dial_direct(node, client_addr)

    async def dial_registered(self, node: Node) -> socket.socket:
        """Dial the registered address. The name is resolved once, and what was checked is what is dialled."""
        host, port = split_host_port(node.spec.addr)
        try:
            addresses = await resolve(host, port, deadline_s=limits.AGENT_DIAL_S)
            self._policy().check(addresses)
            sock: socket.socket = await dial_resolved(
                addresses, node.spec.addr, deadline_s=limits.AGENT_DIAL_S
            )
        except AccessError as exc:
            self._log.warning(
                "cannot reach a server directly",
                extra={"host_id": node.name, "addr": node.spec.addr, "detail": exc.detail or exc.message},
            )
            raise UnavailableError(f"server {node.spec.hostname!r} does not answer") from exc
        return sock

    async def _dial_direct(self, node: Node, client_addr: str) -> Stream:
        sock = await self.dial_registered(node)
        stream = await adopt(sock)
        try:
            header = self._signer().sign(
                source=split_host_port(client_addr),
                destination=peer_of(sock),
                audience=node.name,
                now=self._clock.now(),
            )
            stream.write(header)
        except BaseException:
            stream.abort()
            raise
        return stream

    async def emit_cut(self, identity: Identity, client_addr: str, login: str, reason: str) -> None:
        """A stream was cut here: the agent did not end it."""
        self._log.warning(
            "a stream that is no longer allowed was cut",
            extra={"user": identity.name, "addr": client_addr, "reason": reason},
        )
        event = new_event(
            CLIENT_DISCONNECT,
            cluster_name=self._cache.cluster_name,
            now=self._clock.now(),
            ei=0,
            user=identity.name,
            login=login or None,
            reason=reason,
            server_id=self._host_id,
            addr_remote=client_addr,
            proto="ssh",
        )
        try:
            await self._emitter.emit(event)
        except AccessError as exc:
            self._log.error("a cut stream is not audited: %s", exc)

    async def _emit_connect(self, identity: Identity, node: Node, client_addr: str, login: str) -> None:
        await self._emitter.emit(
            new_event(
                SESSION_CONNECT,
                cluster_name=self._cache.cluster_name,
                now=self._clock.now(),
                user=identity.name,
                login=login or None,
                server_hostname=node.spec.hostname,
                server_addr=node.spec.addr or node.name,
                addr_remote=client_addr,
            )
        )

    async def _emit_denied(
        self, identity: Identity, hostname: str, client_addr: str, login: str, reasons: tuple[str, ...]
    ) -> None:
        self._log.info(
            "a user may not connect",
            extra={"user": identity.name, "addr": client_addr, "reason": "; ".join(reasons)},
        )
        try:
            await self._emitter.emit(
                new_event(
                    AUTH_FAIL,
                    cluster_name=self._cache.cluster_name,
                    now=self._clock.now(),
                    user=identity.name,
                    login=login or None,
                    success=False,
                    error="; ".join(reasons) or "access denied",
                    server_hostname=hostname or None,
                    addr_remote=client_addr,
                )
            )
        except AccessError as exc:
            # The answer is no in any case.
            raise DeniedError("access denied", detail=exc.message) from exc


def _may_reach(subject: Subject, node: Node, login: str, env: Environment, *, visits: bool) -> Decision:
    """Whether a user's stream may pass to a server. Which sessions somebody may join there, and whether they
    may do anything else, is the server's to decide."""
    return may_knock(subject, node, env) if visits else decide(subject, See(node, login), env)
