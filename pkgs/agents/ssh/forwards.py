"""The service's side of what one connection forwards: ports both ways, and the client's agent.

Each is decided when it is asked for, and again while it lasts. What is no longer allowed ends with the whole
connection: the process that forwards is the user's, and need not do what it is told (ADR 0080).
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable

from pkgs.agents.ssh.gate import Gate
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
from pkgs.common.errors import AccessError
from pkgs.common.events import codes
from pkgs.common.events.types import FieldValue
from pkgs.common.pki.identity import Identity
from pkgs.common.ssh.process.monitor import Answer

NO_PORTS = "port forwarding is not permitted"
NO_AGENT = "agent forwarding is not permitted"

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
        self._streams: set[int] = set()
        """Channels whose destination was allowed."""
        self._listeners = Listeners(self._audit)
        self._agent = False

    async def handle(
        self, message: OpenForward | ForwardEnded | OpenListener | ListenerClosed | OpenAgent, answer: Answer
    ) -> None:
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

    def too_much(self) -> bool:
        """Whether something is forwarded that would be refused now (attack A14)."""
        if not self._streams and not self._listeners and not self._agent:
            return False
        now = self._gate.forwarding(self._identity, self._login, self.source, live=True)
        return (
            bool(self._streams and not now.local)
            or bool(self._listeners and not now.remote)
            or (self._agent and not now.agent)
        )

    async def close(self) -> None:
        """The process is gone, and all that it forwarded. Raises AccessError when that cannot be audited."""
        await self._listeners.close()

    async def _open_stream(self, request: OpenForward) -> ForwardAnswer:
        permitted = self._gate.forwarding(self._identity, self._login, self.source)
        if not permitted.local:
            why = permitted.why or NO_PORTS
            await self._audit(codes.PORT_FAIL, f"{request.host}:{request.port}", why)
            return ForwardAnswer(channel=request.channel, refusal=permitted.text or NO_PORTS)
        self._streams.add(request.channel)
        return ForwardAnswer(channel=request.channel)

    async def _stream_ended(self, message: ForwardEnded) -> None:
        if message.what != "started":
            self._streams.discard(message.channel)
        kind = {"started": codes.PORT_START, "stopped": codes.PORT_STOP, "failed": codes.PORT_FAIL}
        await self._audit(kind[message.what], f"{message.host}:{message.port}", message.error)

    async def _open_listener(self, request: OpenListener) -> ListenerAnswer:
        permitted = self._gate.forwarding(self._identity, self._login, self.source)
        if not permitted.remote:
            await self._listeners.refused(request.host, request.port, permitted.why or NO_PORTS)
            return ListenerAnswer(refusal=permitted.text or NO_PORTS)
        try:
            await self._listeners.opened(request.host, request.port)
        except AccessError as problem:
            self._log.error("no forwarding without its audit: %s", problem)
            return ListenerAnswer(refusal=problem.message)
        return ListenerAnswer()

    async def _open_agent(self) -> AgentAnswer:
        permitted = self._gate.forwarding(self._identity, self._login, self.source)
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
