"""The sessions of one connection: let in, begun, recorded, ended.

admit (decided: nothing runs) -> begin (decided again, audited: it may run) -> record -> end
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal, Protocol

from pkgs.common.errors import AccessError, DeniedError, InputError, ProtocolError
from pkgs.common.events import codes
from pkgs.common.events.types import Emitter
from pkgs.common.output.sanitize import inert
from pkgs.common.recording.ids import require_session_id
from pkgs.common.sessions.recordings import Recorder
from pkgs.common.sessions.unfinished import Unfinished
from pkgs.common.ssh.limits import MAX_SESSIONS, RECORD_HEAD
from pkgs.common.ssh.process.messages import Refused
from pkgs.common.ssh.service.audit import Audit
from pkgs.common.ssh.service.client import Client
from pkgs.common.ssh.service.ending import Ending
from pkgs.common.ssh.service.gate import Gate
from pkgs.common.ssh.sessions.copies import is_copy
from pkgs.common.ssh.sessions.log import SessionLog
from pkgs.common.ssh.sessions.messages import (
    OpenSession,
    Output,
    OutputCut,
    Resized,
    SessionEnded,
    SessionOpened,
)

NO_COPIES = "file copying is not permitted"
DENIED = "access denied"


class Keeping(Protocol):
    """Where a service keeps what its users do."""

    @property
    def emitter(self) -> Emitter: ...
    @property
    def recorder(self) -> Recorder: ...
    @property
    def unfinished(self) -> Unfinished: ...
    @property
    def log(self) -> logging.Logger: ...


@dataclass(frozen=True, slots=True)
class Admitted:
    """A session that may begin."""

    client: Client
    request: OpenSession
    log: SessionLog
    forced: str
    """What runs instead of what was asked for."""
    accompanied: bool
    watched: bool

    @property
    def copies(self) -> bool:
        """Whether it is there to copy files."""
        return not self.forced and bool(is_copy(self.request))


class Sessions:
    def __init__(self, gate: Gate, keeping: Keeping, audit: Audit, ending: Ending) -> None:
        self._gate = gate
        self._keeping = keeping
        self._audit = audit
        self._ending = ending
        self._open: dict[int, SessionLog] = {}

    def __len__(self) -> int:
        return len(self._open)

    def __iter__(self) -> Iterator[int]:
        """Their channels."""
        return iter(list(self._open))

    def __getitem__(self, channel: int) -> SessionLog:
        """Raises ProtocolError."""
        try:
            return self._open[channel]
        except KeyError:
            raise ProtocolError("no session on that channel") from None

    async def admit(
        self,
        client: Client,
        request: OpenSession,
        *,
        accompanied: bool = False,
        watched: bool = False,
        waiting: int = 0,
    ) -> Admitted | Refused:
        """Whether the session may be. `accompanied`: it does not begin before the company is there that roles
        require (attack A30); `watched`: others may see all of it; `waiting`: how many sessions of the
        connection wait. Raises AccessError."""
        decision = self._gate.decide(client.identity, client.login, client.source, accompanied=accompanied)
        if not decision or self._ending.why:
            await self._audit.rejected(request, "; ".join(decision.reasons) or self._ending.why)
            return Refused(text=decision.text or DENIED)
        options = self._gate.options(client.identity, client.login, client.source)
        open_now = len(self._open) + waiting
        if options.max_sessions and open_now >= options.max_sessions:
            await self._audit.rejected(request, "too many sessions", options.max_sessions)
            return Refused(text=f"too many sessions: the limit is {options.max_sessions}")
        if request.channel in self._open:
            raise ProtocolError("a channel has one session")
        if open_now >= MAX_SESSIONS:
            # An honest process counts itself: each session holds a file of this one open.
            raise ProtocolError("more sessions than a connection may have")
        forced, why = self._confined(client, request)
        if why:
            await self._audit.rejected(request, why)
            return Refused(text=inert(why))
        if not forced and not self._gate.may_copy(options) and (copies := is_copy(request)):
            kind = codes.SFTP_DISALLOWED if copies == "sftp" else codes.SCP_DISALLOWED
            await self._audit.emit(kind, {"command": request.command, "error": NO_COPIES})
            return Refused(text=NO_COPIES)
        assert self._audit.parties is not None
        log = SessionLog(
            self._audit.parties,
            request,
            forced or (request.command if request.kind == "exec" else ""),
            self._keeping.emitter,
            self._keeping.recorder,
            self._keeping.unfinished,
            strict=options.record_strict,
            give_up=self._ending.hang_up,
            now=self._gate.now,
            log=self._keeping.log,
            recorded_as=self._recorded_as(client, request),
        )
        return Admitted(client, request, log, forced, accompanied, watched)

    async def begin(self, session: Admitted) -> SessionOpened | Refused:
        """It runs from now on, if the user may still have it: they may have waited for long."""
        client, request = session.client, session.request
        decision = self._gate.decide(
            client.identity, client.login, client.source, accompanied=session.accompanied
        )
        if not decision or self._ending.why:
            return Refused(text=decision.text or DENIED)
        if self._confined(client, request) != (session.forced, ""):
            return Refused(text="what may run here has changed; try again")
        try:
            await session.log.begin()
            if request.kind == "subsystem" and not session.log.is_kept_elsewhere:
                await session.log.emit(codes.SUBSYSTEM, name=request.command)
        except AccessError as problem:
            self._keeping.log.error(
                "no session without its record: %s", problem, extra={"detail": problem.detail}
            )
            return Refused(text=problem.message)
        self._open[request.channel] = session.log
        return SessionOpened(
            session_id=session.log.session_id,
            forced_command=session.forced,
            record=_record_of(session),
            record_limit=RECORD_HEAD,
        )

    async def record(self, message: Output | OutputCut | Resized) -> None:
        """Raises ProtocolError when there is no such session, AccessError when it is not audited."""
        session = self[message.channel]
        match message:
            case Output(data=data):
                await session.output(data)
            case OutputCut():
                await session.cut()
            case Resized(columns=columns, rows=rows):
                await session.resize(columns, rows)

    async def end(self, message: SessionEnded) -> None:
        """Raises ProtocolError when there is no such session, AccessError when it is not audited."""
        session = self[message.channel]
        del self._open[message.channel]
        await session.end(message)

    async def close(self, why: str) -> None:
        """The connection's process is gone, and with it whatever still ran."""
        for channel in self:
            try:
                await self.end(SessionEnded(channel=channel, status=255, error=why))
            except AccessError as problem:
                self._keeping.log.error("the end of a session is not audited: %s", problem)
            except Exception:
                # The others' ends are still to be said.
                self._keeping.log.exception("the end of a session is not audited")

    def _recorded_as(self, client: Client, request: OpenSession) -> str:
        """The id under which a proxy keeps the record of this session; empty: it is kept here. A proxy that
        names none records nothing. Raises InputError."""
        if not request.recorded_as or not self._gate.recorded_elsewhere(client.identity):
            return ""
        return require_session_id(request.recorded_as)

    def _confined(self, client: Client, request: OpenSession) -> tuple[str, str]:
        """The command that runs whatever was asked for, if there is one; and why nothing may run."""
        try:
            confined = self._gate.confinement(client.identity, client.login, client.source)
            forced = confined.forced_command(client.identity.force_command)
        except (DeniedError, InputError) as problem:
            return "", str(problem)
        if forced:
            return forced, ""
        return "", confined.refusal(request.kind, request.command, exact=request.exact)


def _record_of(session: Admitted) -> Literal["all", "head", "none"]:
    """Which output the process sends: what others may watch, recorded or not, and what a terminal shows."""
    if session.watched or (session.request.pty and session.log.is_recorded):
        return "all"
    return "head" if session.log.is_recorded else "none"
