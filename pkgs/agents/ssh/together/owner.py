"""One connection's own sessions on terminals: begun at once or when their company is there, shared, ended."""

from __future__ import annotations

from collections.abc import Callable

from pkgs.agents.ssh.together.messages import SessionOver, Waiting
from pkgs.agents.ssh.together.shared import Begin, SharedSession
from pkgs.agents.ssh.together.table import Table
from pkgs.agents.ssh.together.viewer import Push
from pkgs.agents.ssh.together.words import line
from pkgs.common.errors import AccessError, ProtocolError
from pkgs.common.events import codes
from pkgs.common.ssh.process.messages import Refused
from pkgs.common.ssh.service.gate import Gate
from pkgs.common.ssh.sessions.log import Parties, SessionLog
from pkgs.common.ssh.sessions.messages import OpenSession, SessionOpened

NOT_TOLD = (
    "this session needs others to be present, and the Auth Service cannot be told of it now; try again later"
)
GAVE_UP = "the owner of the session gave up"
ENDED = "The session has ended."


class OwnSessions:
    """Of one connection. `push` reaches its process, `give_up` ends it."""

    def __init__(self, table: Table, gate: Gate, push: Push, give_up: Callable[[str], None]) -> None:
        self._table = table
        self._gate = gate
        self._push = push
        self._give_up = give_up
        self._sessions: dict[int, SharedSession] = {}

    @property
    def waiting(self) -> int:
        """Sessions that do not run yet."""
        return sum(session.state == "pending" for session in self._sessions.values())

    @property
    def detached(self) -> bool:
        """Whether a session here goes on without its owner."""
        return any(session.detached for session in self._sessions.values())

    async def open(
        self, request: OpenSession, owner: Parties, log: SessionLog, begin: Begin
    ) -> SessionOpened | Waiting | Refused:
        """Begin the session, or have it wait for its company. Nothing runs before `SessionOpened`. Raises
        ProtocolError."""
        if request.channel in self._sessions:  # of one that waits, nobody else knows yet
            raise ProtocolError("a channel has one session")

        def forget() -> None:
            self._sessions.pop(request.channel, None)

        session = SharedSession(
            self._table,
            self._gate,
            owner,
            request,
            log,
            push=self._push,
            begin=begin,
            give_up=self._give_up,
            on_over=forget,
        )
        if not session.lacks():
            opened = await begin()
            if isinstance(opened, SessionOpened):
                self._sessions[request.channel] = session
                session.started()
            return opened
        try:
            await session.announce()  # fault F07
        except AccessError:
            await log.emit(codes.SESSION_REJECTED, reason=NOT_TOLD)
            return Refused(text=NOT_TOLD)
        self._sessions[request.channel] = session
        return Waiting(session_id=session.session_id, text=session.greeting())

    def output(self, channel: int, data: bytes) -> None:
        if session := self._sessions.get(channel):
            session.output(data)

    def resized(self, channel: int, columns: int, rows: int) -> None:
        if session := self._sessions.get(channel):
            session.resized(columns, rows)

    async def gave_up(self, channel: int) -> None:
        """The owner does not wait any longer. Of a session that runs, this says nothing."""
        session = self._sessions.get(channel)
        if session is not None and session.state == "pending":
            del self._sessions[channel]
            self._push(SessionOver(channel=channel, text=line("You gave up.")))
            await session.finish(GAVE_UP)

    async def ended(self, channel: int) -> None:
        """What ran there is over."""
        if session := self._sessions.pop(channel, None):
            await session.finish(ENDED)

    async def closed(self) -> None:
        """The connection is gone. Raises the last AccessError after all are over."""
        problem: AccessError | None = None
        for channel in list(self._sessions):
            try:
                await self.ended(channel)
            except AccessError as error:
                problem = error
        if problem is not None:
            raise problem

    def review(self) -> None:
        for session in list(self._sessions.values()):
            session.review()
