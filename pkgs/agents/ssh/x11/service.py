"""The service's side of one connection's displays: decided, audited, and asked about while they last."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable

from pkgs.agents.ssh.x11 import folder
from pkgs.agents.ssh.x11.messages import DisplayAnswer, DisplayFailed, FromDisplays, OpenDisplay
from pkgs.common.errors import AccessError
from pkgs.common.events import codes
from pkgs.common.events.types import FieldValue
from pkgs.common.ssh.process.monitor import Answer
from pkgs.common.ssh.service.gate import ForwardingRights

NOT_PERMITTED = "X11 forwarding is not permitted"

Emit = Callable[[codes.Kind, dict[str, FieldValue]], Awaitable[None]]


class DisplayForwards:
    """Of one connection; `rights` are those of the moment. True once there was one: a connection that may
    no longer have it ends, whether or not its session still runs."""

    def __init__(self, rights: Callable[[], ForwardingRights], emit: Emit, log: logging.Logger) -> None:
        self._rights = rights
        self._emit = emit
        self._log = log
        self._used = False

    def __bool__(self) -> bool:
        return self._used

    async def handle(self, message: FromDisplays, answer: Answer) -> None:
        match message:
            case OpenDisplay():
                await answer(await self._open())
            case DisplayFailed(error=error):
                await self._audit(error)

    def too_much(self, now: ForwardingRights) -> bool:
        """Whether there is one that would be refused with these rights (attack A14)."""
        return self._used and not now.displays

    async def _open(self) -> DisplayAnswer:
        rights = self._rights()
        why = "" if rights.displays else rights.why or NOT_PERMITTED
        text = rights.text or NOT_PERMITTED if why else ""
        try:
            if not why:
                folder.make()
        except AccessError as problem:
            why = text = problem.message
        try:
            await self._audit(why)
        except AccessError as problem:
            self._log.error("no display without its audit: %s", problem)
            return DisplayAnswer(refusal=problem.message)
        if why:
            return DisplayAnswer(refusal=text)
        self._used = True
        return DisplayAnswer(first=rights.displays[0], last=rights.displays[-1])

    async def _audit(self, error: str) -> None:
        kind = codes.X11_FORWARD_FAIL if error else codes.X11_FORWARD
        await self._emit(kind, {"success": not error, "error": error or None})
