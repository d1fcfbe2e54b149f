"""The tunnels of agents: control connections, and data connections ready to carry a user's stream.

An agent keeps a control connection (a stream of dial requests that the proxy writes and the agent
follows) and dials data connections when asked. Some are asked for ahead of need. The life of a data
connection:

    accepted --(hello with a dial id)----> given to the caller that waits for it
    accepted --(hello without)--> spare --(taken)--> given;  --(closed, or its tunnel lost)--> gone
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import secrets
from collections import deque
from collections.abc import AsyncIterator, Callable
from typing import NamedTuple

from pkgs.common.api.tunnel import DataHello, DialRequest, OpenTunnel
from pkgs.common.errors import (
    DeniedError,
    LimitExceededError,
    NotFoundError,
    UnavailableError,
)
from pkgs.common.net.framing import read_frame
from pkgs.common.net.stream import Stream
from pkgs.common.pki.identity import Identity, SystemRole
from pkgs.common.rpc.calls import Caller, Callers
from pkgs.common.rpc.registry import Registry
from pkgs.proxy import limits

AGENT_ROLES = (SystemRole.NODE, SystemRole.DB)
"""System roles of those who may hold tunnels. A host may run a service of each; every one joins for itself,
so that its certificate names one."""


BARE_ROLES = (SystemRole.DB,)
"""Of those whose users' streams are TLS themselves: each side ends the tunnel's with its frame (ADR 135)."""


class Agent(NamedTuple):
    """A service of a host."""

    host_id: str
    role: SystemRole


def _agent(identity: Identity) -> Agent:
    """Raises DeniedError."""
    for role in AGENT_ROLES:
        if identity.is_host(role):
            return Agent(identity.host_id, role)
    raise DeniedError("data connections are for agents")


class _Control:
    """One control connection of an agent."""

    __slots__ = ("caller", "closing", "queue", "taken_at")

    def __init__(self, caller: Caller, now: float) -> None:
        self.caller = caller
        self.queue: asyncio.Queue[DialRequest | None] = asyncio.Queue(limits.TUNNEL_QUEUE)
        self.taken_at = now
        self.closing = False

    def ask(self, request: DialRequest | None) -> bool:
        try:
            self.queue.put_nowait(request)
        except asyncio.QueueFull:
            return False
        return True


class _Host:
    """All that one agent holds with this proxy."""

    __slots__ = ("asked", "controls", "spares")

    def __init__(self) -> None:
        self.controls: list[_Control] = []
        self.spares: deque[Stream] = deque()
        self.asked = 0
        """Spare connections asked for and not here yet."""


class Tunnels:
    """Which agents are connected, and a data connection to one of them when it is wanted."""

    def __init__(self, log: logging.Logger) -> None:
        self._log = log
        self._hosts: dict[Agent, _Host] = {}
        self._waiting: dict[str, tuple[Agent, asyncio.Future[Stream]]] = {}
        self._draining = False
        self._on_change: Callable[[], None] = lambda: None

    def register(self, registry: Registry) -> None:
        registry.register(OpenTunnel, self.open_tunnel, callers=Callers.NODE | Callers.DB)

    def on_change(self, callback: Callable[[], None]) -> None:
        """Call when an agent comes or goes."""
        self._on_change = callback

    @property
    def hosts(self) -> int:
        return len(self._hosts)

    @property
    def spares(self) -> int:
        return sum(len(host.spares) for host in self._hosts.values())

    def holds(self, host_id: str, role: SystemRole = SystemRole.NODE) -> bool:
        return Agent(host_id, role) in self._hosts

    # --- control connections

    async def open_tunnel(self, caller: Caller, request: OpenTunnel) -> AsyncIterator[DialRequest]:
        """Serve one control connection: dial requests as they are needed, and a sign of life between them."""
        agent = _agent(caller.host())
        control = _Control(caller, self._now())
        self._open(agent, control)
        try:
            while not control.closing:
                try:
                    async with asyncio.timeout(limits.TUNNEL_PING_S):
                        item = await control.queue.get()
                except TimeoutError:
                    item = DialRequest(ping=True)
                    self._top_up(agent, control, forget_asked=True)
                if item is None:
                    break
                yield item
                control.taken_at = self._now()
        finally:
            self._closed(agent, control)

    @staticmethod
    def _now() -> float:
        return asyncio.get_running_loop().time()

    def _open(self, agent: Agent, control: _Control) -> None:
        if self._draining:
            raise UnavailableError("this proxy is shutting down")
        host = self._hosts.get(agent)
        if host is not None and len(host.controls) >= limits.TUNNELS_PER_HOST:
            raise LimitExceededError(f"more than {limits.TUNNELS_PER_HOST} tunnels of one host")
        if host is None:
            host = self._hosts[agent] = _Host()
            self._log.info(
                "agent connected", extra={"host_id": agent.host_id, "addr": control.caller.remote_addr}
            )
            self._on_change()
        host.controls.append(control)
        # An agent has one tunnel to a proxy. A second one means that the first was cut, though TCP may not
        # know it yet, and what it left would make users wait.
        _discard_all(host)
        self._top_up(agent, control, forget_asked=True)

    def _closed(self, agent: Agent, control: _Control) -> None:
        host = self._hosts.get(agent)
        if host is None or control not in host.controls:
            return
        host.controls.remove(control)
        if host.controls:
            return
        del self._hosts[agent]
        _discard_all(host)
        self._log.info("agent disconnected", extra={"host_id": agent.host_id})
        self._on_change()

    def _top_up(self, agent: Agent, control: _Control, *, forget_asked: bool = False) -> None:
        """Ask for as many spare connections as are missing. What was asked for and never came is
        forgotten with the next sign of life."""
        host = self._hosts.get(agent)
        if host is None or self._draining:
            return
        if forget_asked:
            host.asked = 0
        while len(host.spares) + host.asked < limits.SPARES and control.ask(DialRequest()):
            host.asked += 1

    def stalled(self) -> list[Caller]:
        """Callers whose control connection takes nothing any more: dead, though TCP does not know yet."""
        oldest = self._now() - limits.TUNNEL_STALLED_S
        return [
            control.caller
            for host in self._hosts.values()
            for control in host.controls
            if control.taken_at < oldest
        ]

    def drain(self) -> None:
        """End every control connection, so that the agents move to another proxy. Streams in use go on."""
        self._draining = True
        for host in self._hosts.values():
            for control in host.controls:
                control.closing = True
                control.ask(None)
            _discard_all(host)

    # --- data connections

    async def serve_data(self, stream: Stream, identity: Identity) -> None:
        """Serve a data connection from its hello until it is over. The peer is known to be `identity`."""
        agent = _agent(identity)
        async with asyncio.timeout(limits.DATA_HELLO_S):
            hello = await read_frame(stream, DataHello)
            if agent.role in BARE_ROLES:
                await stream.shed_reading()
        if hello.dial_id:
            self._answer(hello.dial_id, agent, stream)
        else:
            self._keep(agent, stream)
        await stream.wait_closed()

    def _answer(self, dial_id: str, agent: Agent, stream: Stream) -> None:
        # Only the agent that was asked may answer (attack A39).
        expected, waiting = self._waiting.get(dial_id, ("", None))
        if waiting is None or expected != agent or waiting.done():
            raise NotFoundError("nobody waits for this data connection")
        waiting.set_result(stream)

    def _keep(self, agent: Agent, stream: Stream) -> None:
        host = self._hosts.get(agent)
        if host is None or self._draining:
            raise NotFoundError("a data connection needs a control connection")
        if len(host.spares) >= limits.SPARES_MAX:
            raise LimitExceededError(f"more than {limits.SPARES_MAX} spare connections")
        host.asked = max(0, host.asked - 1)
        host.spares.append(stream)
        stream.watch_idle(lambda: self._disturbed(agent, stream))

    def _disturbed(self, agent: Agent, stream: Stream) -> None:
        host = self._hosts.get(agent)
        if host is not None:
            with contextlib.suppress(ValueError):
                host.spares.remove(stream)
            if host.controls:
                self._top_up(agent, host.controls[-1])
        stream.abort()

    async def take(self, host_id: str, role: SystemRole = SystemRole.NODE) -> Stream:
        """A data connection to this agent: a spare one, else one dialled now. Raises UnavailableError."""
        agent = Agent(host_id, role)
        host = self._hosts.get(agent)
        if host is None or not host.controls:
            raise UnavailableError("the server holds no tunnel to this proxy")
        newest = host.controls[-1]
        while host.spares:
            stream = host.spares.pop()
            stream.watch_idle(None)
            if stream.peek_closed():
                stream.abort()
                continue
            self._top_up(agent, newest)
            return stream
        return await self._dial(agent, newest)

    async def _dial(self, agent: Agent, control: _Control) -> Stream:
        dial_id = secrets.token_hex(16)
        waiting: asyncio.Future[Stream] = asyncio.get_running_loop().create_future()
        self._waiting[dial_id] = (agent, waiting)
        try:
            if not control.ask(DialRequest(dial_id=dial_id)):
                raise UnavailableError("the server's tunnel is overloaded")
            await asyncio.wait({waiting}, timeout=limits.AGENT_DIAL_S)
            if not waiting.done():
                raise UnavailableError("the server did not answer over its tunnel")
            return waiting.result()
        except asyncio.CancelledError:
            if waiting.done():
                waiting.result().abort()
            raise
        finally:
            del self._waiting[dial_id]


def _discard_all(host: _Host) -> None:
    while host.spares:
        stream = host.spares.popleft()
        stream.watch_idle(None)
        stream.abort()
