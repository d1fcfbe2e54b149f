"""The service's view of a connection that joins sessions of others: it has no login, and runs nothing.

Who is behind it is verified as for every login but for the principal: no OS user is asked for. Which
session, and as what, is decided when a channel asks, and again and again while it lasts (attacks A14, A30).
"""

from __future__ import annotations

from collections.abc import Callable

from pkgs.agents.ssh.together.messages import Joined, JoinSession, Left, Taken, Typed
from pkgs.agents.ssh.together.shared import SharedSession
from pkgs.agents.ssh.together.table import Table, no_such_session
from pkgs.agents.ssh.together.viewer import Push, Viewer
from pkgs.agents.ssh.together.visit import Visit
from pkgs.common.access.joining import MODES
from pkgs.common.access.types import Subject
from pkgs.common.access.visiting import may_knock
from pkgs.common.errors import AccessError, DeniedError, InputError, ProtocolError
from pkgs.common.output.sanitize import inert
from pkgs.common.pki.sshcert import unverified_facts, verify_user_cert
from pkgs.common.recording.ids import require_session_id
from pkgs.common.ssh.process.messages import Message, Refused
from pkgs.common.ssh.process.monitor import Answer, Verdict
from pkgs.common.ssh.service.gate import Gate
from pkgs.common.ssh.sessions.log import Parties

NO_LONGER = "You may not be in this session any more."
MAX_VISITS = 8
"""Sessions that one connection is in."""


def verdict(gate: Gate, blob: bytes, source: str) -> Verdict:
    """May the holder of this certificate come to the door? Pure."""
    try:
        identity = verify_user_cert(
            blob, trust=gate.cache.trust, login=None, source_addr=source, now=gate.now()
        )
    except DeniedError as problem:
        return Verdict(None, problem.message, unverified_facts(blob).key_id)
    except AccessError as problem:
        return Verdict(None, problem.message)
    try:
        subject = Subject(identity, gate.cache.roles_of(identity))
    except DeniedError as problem:
        return Verdict(None, problem.message, identity.name, problem.message)
    decision = may_knock(subject, gate.node(), gate.environment(source))
    if not decision:
        text = decision.text or "you may not join sessions on this server"
        return Verdict(None, "; ".join(decision.reasons), identity.name, text)
    return Verdict(identity)


class Visitor:
    """One connection of somebody who joins."""

    def __init__(
        self,
        table: Table,
        gate: Gate,
        parties: Parties,
        source: str,
        blob: bytes,
        push: Push,
        is_here: Callable[[], bool],
    ) -> None:
        """`is_here`: whether the client is connected at the moment."""
        self._table = table
        self._gate = gate
        self._parties = parties
        self._source = source
        self._blob = blob
        self._push = push
        self._is_here = is_here
        self._visits: dict[int, tuple[SharedSession, Visit]] = {}

    async def handle(self, message: Message, answer: Answer) -> None:
        match message:
            case JoinSession():
                await answer(await self._join(message))
            case Typed(channel=channel, data=data):
                if found := self._visits.get(channel):
                    await found[0].typed(found[1], data)
            case Taken(channel=channel, size=size):
                if found := self._visits.get(channel):
                    found[1].viewer.taken(size)
            case Left(channel=channel):
                await self._leave(channel)
            case _:
                raise ProtocolError("message is not one of a visitor's process")

    async def _join(self, request: JoinSession) -> Joined | Refused:
        if request.channel in self._visits or len(self._visits) >= MAX_VISITS:
            raise ProtocolError("more visits than a connection may have")
        try:
            session, visit = await self._enter(request)
        except AccessError as problem:
            return Refused(text=inert(str(problem)))
        self._visits[request.channel] = (session, visit)
        return Joined(session_id=session.session_id)

    async def _enter(self, request: JoinSession) -> tuple[SharedSession, Visit]:
        """Raises NotFoundError also for what may not be joined."""
        session = self._table.find(require_session_id(request.session_id))  # attack A60
        mode = next((mode for mode in MODES if mode == request.mode), None)
        if mode is None:
            raise InputError("there is no such mode", hint=f"join as {', '.join(MODES)}")
        decision = session.may_enter(self._parties, self._source, mode)
        if not decision:
            await session.refused(self._parties, mode, "; ".join(decision.reasons))
            if decision.needs:  # a role does let them in
                raise DeniedError(f"you may not join this session: {'; '.join(decision.reasons)}")
            raise no_such_session()
        viewer = Viewer(request.channel, self._push, session.newest)
        size = (request.columns, request.rows)
        visit = Visit(self._parties, self._source, mode, viewer, self._is_here, size)
        await session.enter(visit)
        return session, visit

    async def _leave(self, channel: int) -> None:
        if found := self._visits.pop(channel, None):
            session, visit = found
            visit.viewer.stop()
            await session.leave(visit, "")

    async def closed(self) -> None:
        """The connection is gone. Raises the last AccessError after all visits are over."""
        problem: AccessError | None = None
        for channel in list(self._visits):
            try:
                await self._leave(channel)
            except AccessError as error:
                problem = error
        if problem is not None:
            raise problem

    def review(self, *, authorities: bool, end: Callable[[str, str], None]) -> None:
        """End the connection, or single visits, that would not be allowed now."""
        identity, gate = self._parties.identity, self._gate
        try:
            subject = Subject(identity, gate.cache.roles_of(identity))
        except DeniedError as problem:
            end(problem.message, NO_LONGER)
            return
        decision = may_knock(subject, gate.node(), gate.environment(self._source, live=True))
        if not decision:
            end("; ".join(decision.reasons), decision.text or NO_LONGER)
        elif authorities and not self._still_trusted():
            end("the certificate's authority is no longer trusted", NO_LONGER)
        else:
            for session, visit in list(self._visits.values()):
                if not session.may_enter(self._parties, self._source, visit.mode, live=True):
                    session.dismiss(visit, NO_LONGER)

    def _still_trusted(self) -> bool:
        return self._gate.still_trusts(self._blob, self._parties.identity, None, self._source)
