"""The service's side of one connection's unix sockets: decided, audited, and asked about while they last."""

from __future__ import annotations

import logging
from collections.abc import Callable

from pkgs.agents.ssh.destinations import refusal_of_socket
from pkgs.agents.ssh.limits import MAX_LISTENERS, MAX_REAL_PATH
from pkgs.agents.ssh.listeners import Audit
from pkgs.agents.ssh.sockets.messages import (
    FromSockets,
    ListenOnSocket,
    OpenSocket,
    SocketAnswer,
    SocketClosed,
    SocketStream,
)
from pkgs.agents.ssh.sockets.paths import is_plain
from pkgs.common.access.options.forwarding import Direction
from pkgs.common.errors import AccessError, ProtocolError
from pkgs.common.events import codes
from pkgs.common.ssh.limits import MAX_CHANNELS
from pkgs.common.ssh.process.monitor import Answer
from pkgs.common.ssh.service.gate import ForwardingRights

NOT_PERMITTED = "port forwarding is not permitted"

KINDS = {"started": codes.PORT_START, "stopped": codes.PORT_STOP, "failed": codes.PORT_FAIL}
"""The event of each thing that a process tells of a stream."""


class SocketForwards:
    """Of one connection. `rights` are those of the moment; in `own_folder` are the service's own sockets."""

    def __init__(
        self,
        rights: Callable[[], ForwardingRights],
        audit: Audit,
        own_folder: str,
        log: logging.Logger,
    ) -> None:
        self._rights = rights
        self._audit = audit
        self._log = log
        self._own_folder = own_folder
        self._streams: dict[int, OpenSocket] = {}
        self._started: set[int] = set()
        self._listeners: dict[str, ListenOnSocket] = {}
        """By their real names."""

    def __bool__(self) -> bool:
        return bool(self._streams or self._listeners)

    async def handle(self, message: FromSockets, answer: Answer) -> None:
        match message:
            case OpenSocket():
                await answer(await self._open(message))
            case SocketStream():
                await self._stream(message)
            case ListenOnSocket():
                await answer(await self._listen(message))
            case SocketClosed():
                await self._closed(message)

    def too_much(self, now: ForwardingRights) -> bool:
        """Whether one is in use that would be refused with these rights (attack A14)."""
        return any(self._why_not(now, "local", stream) for stream in self._streams.values()) or any(
            self._why_not(now, "remote", listener) for listener in self._listeners.values()
        )

    async def close(self) -> None:
        """The process is gone, and with it all that it forwarded. Raises AccessError."""
        while self._started:
            await self._audit(codes.PORT_STOP, self._streams.pop(self._started.pop()).path, "")
        while self._listeners:
            _, asked = self._listeners.popitem()
            await self._audit(codes.PORT_STOP, _address("remote", asked.path), "")

    async def _open(self, asked: OpenSocket) -> SocketAnswer:
        if asked.channel not in self._streams and len(self._streams) >= MAX_CHANNELS:
            raise ProtocolError("more streams than a connection may have")
        answer = await self._decide("local", asked)
        if not answer.refusal:
            self._streams[asked.channel] = asked
        return answer

    async def _stream(self, message: SocketStream) -> None:
        asked = self._streams.get(message.channel)
        if asked is None:
            raise ProtocolError("nothing was allowed on that channel")
        if message.what == "started":
            self._started.add(message.channel)
        else:
            del self._streams[message.channel]
            self._started.discard(message.channel)
        await self._audit(KINDS[message.what], asked.path, message.error)

    async def _listen(self, asked: ListenOnSocket) -> SocketAnswer:
        if not asked.problem and (asked.real in self._listeners or len(self._listeners) >= MAX_LISTENERS):
            # An honest process counts itself, and makes no socket over its own.
            raise ProtocolError("more listeners than a connection may have")
        answer = await self._decide("remote", asked)
        if answer.refusal:
            return answer
        try:
            await self._audit(codes.PORT_START, _address("remote", asked.path), "")
        except AccessError as problem:
            self._log.error("no forwarding without its audit: %s", problem)
            return SocketAnswer(refusal=problem.message)
        self._listeners[asked.real] = asked
        return answer

    async def _closed(self, message: SocketClosed) -> None:
        asked = self._listeners.pop(message.real, None)
        if asked is None:
            raise ProtocolError("no listener on that socket")
        await self._audit(codes.PORT_STOP, _address("remote", asked.path), message.error)

    async def _decide(self, direction: Direction, asked: OpenSocket | ListenOnSocket) -> SocketAnswer:
        if not asked.problem and not (is_plain(asked.real) and len(asked.real) <= MAX_REAL_PATH):
            raise ProtocolError("that is no path of a socket")
        rights = self._rights()
        why = self._why_not(rights, direction, asked)
        if not why and not asked.problem:
            return SocketAnswer()
        await self._audit(codes.PORT_FAIL, _address(direction, asked.path), why or asked.problem)
        return SocketAnswer(refusal=rights.text or why or asked.problem, unreachable=not why)

    def _why_not(
        self, rights: ForwardingRights, direction: Direction, asked: OpenSocket | ListenOnSocket
    ) -> str:
        """Empty: it may be. Also what leads nowhere is told so only to those who might go there."""
        if not (rights.local if direction == "local" else rights.remote):
            return rights.why or NOT_PERMITTED
        real = asked.real or asked.path
        own = refusal_of_socket(real, self._own_folder)
        return rights.to.socket_refusal(direction, real, asked=asked.path, own=own)


def _address(direction: Direction, path: str) -> str:
    return path if direction == "local" else f"remote {path}"
