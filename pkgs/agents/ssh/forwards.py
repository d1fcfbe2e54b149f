"""The service's side of what one connection forwards: ports and sockets both ways, the client's agent, X11.

Each is decided when it is asked for, and again while it lasts. What is no longer allowed ends with the whole
connection: the process that forwards is the user's, and need not do what it is told (ADR 0080).
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable

from pkgs.agents.ssh.destinations import refusal_of
from pkgs.agents.ssh.limits import MAX_ADDRESSES
from pkgs.agents.ssh.listeners import Listeners
from pkgs.agents.ssh.messages import (
    AgentAnswer,
    ForwardAnswer,
    ForwardEnded,
    ListenerAnswer,
    ListenerClosed,
    OpenAgent,
    OpenForward,
    OpenListener,
)
from pkgs.agents.ssh.sockets.forwards import KINDS, SocketForwards
from pkgs.agents.ssh.sockets.messages import FromSockets
from pkgs.agents.ssh.x11.messages import DisplayFailed, FromDisplays, OpenDisplay
from pkgs.agents.ssh.x11.service import DisplayForwards
from pkgs.common.errors import AccessError, ProtocolError
from pkgs.common.events import codes
from pkgs.common.events.types import FieldValue
from pkgs.common.pki.identity import Identity
from pkgs.common.ssh.limits import MAX_CHANNELS
from pkgs.common.ssh.process.monitor import Answer
from pkgs.common.ssh.service.gate import ForwardingRights, Gate

NO_PORTS = "port forwarding is not permitted"
UNKNOWN = "the name does not resolve"
NO_AGENT = "agent forwarding is not permitted"

FromForwarding = (
    OpenForward | ForwardEnded | OpenListener | ListenerClosed | OpenAgent | FromSockets | FromDisplays
)

Emit = Callable[[codes.Kind, dict[str, FieldValue]], Awaitable[None]]
"""One event of the connection, with what all of its events carry. Raises AccessError."""


class Forwards:
    """Of one connection, whose login is `identity` as `login` from `source`."""

    def __init__(
        self, gate: Gate, identity: Identity, login: str, source: str, emit: Emit, log: logging.Logger
    ) -> None:
        self._gate = gate
        self._identity = identity
        self._login = login
        self.source = source
        """Changes when the client goes on from elsewhere."""
        self._emit = emit
        self._log = log
        self._streams: dict[int, tuple[OpenForward, list[str]]] = {}
        """What was asked for, and which addresses of it were allowed, by channel."""
        self._started: set[int] = set()
        self._listeners = Listeners(self._audit)
        self._sockets = SocketForwards(self._rights, self._audit, gate.own_folder, log)
        self._displays = DisplayForwards(self._rights, emit, log)
        self._agent = False

    async def handle(self, message: FromForwarding, answer: Answer) -> None:
        match message:
            case OpenForward():
                await answer(await self._open_stream(message))
            case ForwardEnded():
                await self._stream_ended(message)
            case OpenListener():
                await answer(await self._open_listener(message))
            case ListenerClosed(host=host, port=port, error=error):
                await self._listeners.closed(host, port, error)
            case OpenAgent():
                await answer(await self._open_agent())
            case OpenDisplay() | DisplayFailed():
                await self._displays.handle(message, answer)
            case _:
                await self._sockets.handle(message, answer)

    def too_much(self) -> bool:
        """Whether something is forwarded that would be refused now (attack A14)."""
        if not (self._streams or self._listeners or self._sockets or self._displays or self._agent):
            return False
        now = self._gate.forwarding(self._identity, self._login, self.source, live=True)
        return (
            bool(self._streams and not now.local)
            or bool(self._listeners and not now.remote)
            or (self._agent and not now.agent)
            or self._sockets.too_much(now)
            or self._displays.too_much(now)
            or any(
                self._not_to(now, request, address)
                for request, addresses in self._streams.values()
                for address in addresses
            )
            or any(_not_from(now, OpenListener(host=host, port=port)) for host, port in self._listeners.open)
        )

    async def close(self) -> None:
        """The process is gone, and all that it forwarded. Raises AccessError when that cannot be audited."""
        while self._started:
            request, _ = self._streams.pop(self._started.pop())
            await self._audit(codes.PORT_STOP, _address(request), "")
        await self._listeners.close()
        await self._sockets.close()

    def _rights(self) -> ForwardingRights:
        return self._gate.forwarding(self._identity, self._login, self.source)

    async def _open_stream(self, request: OpenForward) -> ForwardAnswer:
        if request.channel not in self._streams and len(self._streams) >= MAX_CHANNELS:
            raise ProtocolError("more streams than a connection may have")
        permitted = self._rights()
        if not permitted.local:
            return await self._refuse(request, permitted.why or NO_PORTS, permitted.text or NO_PORTS)
        if len(request.addresses) > MAX_ADDRESSES:
            raise ProtocolError("more addresses than a name may have")
        if not request.addresses:
            return await self._refuse(request, UNKNOWN, UNKNOWN, unreachable=True)
        reasons = {address: self._not_to(permitted, request, address) for address in request.addresses}
        allowed = [address for address, why in reasons.items() if not why]
        if not allowed:
            why = next(iter(reasons.values()))
            return await self._refuse(request, why, why)
        self._streams[request.channel] = (request, allowed)
        return ForwardAnswer(addresses=allowed)

    async def _refuse(
        self, request: OpenForward, why: str, text: str, *, unreachable: bool = False
    ) -> ForwardAnswer:
        await self._audit(codes.PORT_FAIL, _address(request), why)
        return ForwardAnswer(refusal=text, unreachable=unreachable)

    @staticmethod
    def _not_to(permitted: ForwardingRights, request: OpenForward, address: str) -> str:
        """Why not to this address of what was asked for; empty: it may be (attack A20)."""
        return permitted.to.refusal("local", request.host, request.port, address, own=refusal_of(address))

    async def _stream_ended(self, message: ForwardEnded) -> None:
        found = self._streams.get(message.channel)
        if found is None:
            raise ProtocolError("nothing was allowed on that channel")
        if message.what == "started":
            self._started.add(message.channel)
        else:
            del self._streams[message.channel]
            self._started.discard(message.channel)
        await self._audit(KINDS[message.what], _address(found[0]), message.error)

    async def _open_listener(self, request: OpenListener) -> ListenerAnswer:
        permitted = self._rights()
        why = (permitted.why or NO_PORTS) if not permitted.remote else _not_from(permitted, request)
        if why:
            await self._listeners.refused(request.host, request.port, why)
            return ListenerAnswer(refusal=permitted.text or NO_PORTS)
        try:
            await self._listeners.opened(request.host, request.port)
        except AccessError as problem:
            self._log.error("no forwarding without its audit: %s", problem)
            return ListenerAnswer(refusal=problem.message)
        return ListenerAnswer()

    async def _open_agent(self) -> AgentAnswer:
        permitted = self._rights()
        why = "" if permitted.agent else permitted.why or NO_AGENT
        try:
            await self._emit(
                codes.AGENT_FORWARD_FAIL if why else codes.AGENT_FORWARD,
                {"success": not why, "error": why or None},
            )
        except AccessError as problem:
            self._log.error("no agent without its audit: %s", problem)
            return AgentAnswer(refusal=problem.message)
        self._agent = self._agent or not why
        return AgentAnswer(refusal=(permitted.text or NO_AGENT) if why else "")

    async def _audit(self, kind: codes.Kind, addr: str, error: str) -> None:
        ok = kind is not codes.PORT_FAIL
        await self._emit(kind, {"addr": addr, "success": ok, "error": error or None})


def _address(asked: OpenForward) -> str:
    return f"{asked.host}:{asked.port}"


def _not_from(permitted: ForwardingRights, asked: OpenListener) -> str:
    """Why not from this port of the host; empty: it may be. Only the loopback is ever listened on."""
    address = "::1" if asked.host == "::1" else "127.0.0.1"
    return permitted.to.refusal("remote", asked.host, asked.port, address)
