"""One session on a terminal and everybody in it: what they see, what their keys do, whether it may run.

    pending --company is there--> running --it left, `pause`--> paused --it is back--> running
    any of them --owner ends or gives up, moderator, administrator, company left--> over

All transitions are here, one at a time. Nothing is executed before the first `running`; who is present is
asked anew each time, with roles and locks of that moment (attacks A14, A30).
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Literal

from pkgs.agents.ssh.together import limits
from pkgs.agents.ssh.together.files.asking import Copying
from pkgs.agents.ssh.together.messages import (
    Detach,
    Held,
    Notice,
    PeerInput,
    Redraw,
    Resize,
    SessionOver,
    SessionStarted,
)
from pkgs.agents.ssh.together.states.detached import Detachment
from pkgs.agents.ssh.together.states.presence import Attendance
from pkgs.agents.ssh.together.table import Table
from pkgs.agents.ssh.together.viewer import Push
from pkgs.agents.ssh.together.visit import Visit, event_fields, tracker_of
from pkgs.agents.ssh.together.words import Replay, line, names, reason_of
from pkgs.common.access import joining
from pkgs.common.access.joining import MAY_END, MAY_TYPE, Mode, Participant
from pkgs.common.access.types import Decision, Subject
from pkgs.common.access.visiting import may_enter
from pkgs.common.api.sessions import SessionTracker, State
from pkgs.common.errors import AccessError, DeniedError, LimitExceededError, UnavailableError
from pkgs.common.events import codes
from pkgs.common.output.sanitize import inert
from pkgs.common.pki.identity import Identity
from pkgs.common.ssh.process.messages import Refused
from pkgs.common.ssh.service.gate import Gate
from pkgs.common.ssh.sessions.log import Parties, SessionLog
from pkgs.common.ssh.sessions.messages import OpenSession, SessionOpened

Begin = Callable[[], Awaitable[SessionOpened | Refused]]
"""Make the session's start durable and open its recording, if the owner may still have it."""
_INTERRUPT = b"\x03"
_TERMINATE = b"t"


class SharedSession:
    def __init__(
        self,
        table: Table,
        gate: Gate,
        owner: Parties,
        request: OpenSession,
        log: SessionLog,
        *,
        push: Push,
        begin: Begin,
        give_up: Callable[[str], None],
        on_over: Callable[[], None],
    ) -> None:
        """`give_up` ends the owner's whole connection; `on_over`: a session that never ran is over."""
        self.session_id = log.session_id
        self.state: State | Literal["over"] = "pending"
        self._table = table
        self.gate = gate
        self._owner = owner
        self._request = request
        self.log = log
        self._push = push
        self._begin = begin
        self._give_up = give_up
        self._on_over = on_over
        self.rules = joining.begin("ssh", owner.identity, gate.cache.roles_of(owner.identity))
        self.demanding = any(found.policies for found in self.rules.sets)
        self._told: tuple[str, ...] = ()
        """Who was waited for when everybody was told last."""
        self._visits: dict[str, Visit] = {}
        self.copying = Copying(self)
        self.detached = Detachment(owner.identity)
        self._attendance = Attendance(gate, owner.identity, log.session_id)
        self._replay = Replay()
        self._size = (request.columns, request.rows)
        self._created = gate.now()
        self._ran = False
        self.turn = asyncio.Lock()
        self._grace: asyncio.TimerHandle | None = None
        self._tasks: set[asyncio.Future[None]] = set()

    @property
    def owner(self) -> str:
        """Whoever opened it."""
        return self._owner.identity.name

    def is_of(self, identity: Identity, login: str) -> bool:
        """Whether somebody opened it with this login."""
        mine = self._owner.identity
        who = (identity.name, identity.cluster, identity.impersonator, login)
        return who == (mine.name, mine.cluster, mine.impersonator, self._owner.login)

    @property
    def visits(self) -> list[Visit]:
        """Those who are in it beside its owner."""
        return list(self._visits.values())

    # The owner's side.

    def lacks(self) -> tuple[str, ...]:
        """Who must come before it may run; nobody: it may."""
        return joining.may_run(self.rules, self.present()).reasons

    def started(self) -> None:
        """It runs from its beginning: nobody had to be waited for."""
        self.state, self._ran = "running", True
        self._table.add(self)

    async def announce(self) -> None:
        """It waits from now on, and whoever should come can find it. Raises AccessError: it does not."""
        self._table.add(self)
        try:
            await self._table.announce()
        except AccessError:
            self._table.remove(self)
            raise

    def output(self, data: bytes) -> None:
        self._replay.add(data)
        for visit in self._visits.values():
            visit.viewer.show(data)

    def resized(self, columns: int, rows: int) -> None:
        """The size of the session is that of its owner's terminal, whoever joins."""
        self._size = (columns, rows)

    async def finish(self, text: str) -> None:
        """The owner's side has ended, whatever the reason. Called once."""
        async with self.turn:
            self.state = "over"
            if self._grace is not None:
                self._grace.cancel()
            self._table.remove(self)
            visits, self._visits = list(self._visits.values()), {}
            for visit in visits:
                visit.viewer.close(line(text))
            for visit in visits:
                await self.emit(codes.SESSION_LEAVE, visit)
            if not self._ran:
                await self.log.emit(codes.SESSION_REJECTED, reason=text)

    def review(self) -> None:
        """Somebody's roles or locks may have changed."""
        # One at a time: the next comes in a second.
        changes = self._visits or self.demanding or self.detached
        if self.state != "over" and changes and not self._tasks:
            self._later(self._reconsider())

    async def detach(self, by: str) -> None:
        """Its owner leaves it, by their own order, and it goes on. Nothing happens for the order of somebody
        else, or to a session that does not run. Raises AccessError: they are still in it."""
        async with self.turn:
            allowed = self.detached.may(by, self.gate.cache.cluster_name)
            if not allowed or self.detached or self.state in ("pending", "over"):
                return
            if refusal := self._must_stay():
                self._push(Notice(channel=self.log.channel, text=line(refusal)))
                return
            await self.log.emit(codes.SESSION_LEAVE, reason="detached", participant_mode="owner")
            await self.log.mark("leave", f"{inert(by)}, the owner")
            back = f"tsh join --mode=peer {self.session_id}"
            text = line(f"You left the session, and it goes on. Come back with: {back}")
            if not self._push(Detach(channel=self.log.channel, text=text)):
                raise UnavailableError("the session's process takes no order now")
            self.detached.begin(self.gate.now())
            self.tell(f"{inert(by)}, the owner, left the session; it goes on.")
            self._table.changed()

    def _must_stay(self) -> str:
        """Why its owner can't leave it; empty: they may."""
        if self.log.is_kept_elsewhere:  # it would go on where nobody records it (attack A40)
            return "This session is recorded by the proxy: it ends when you leave it."
        if self._table.left_by(self.owner) >= limits.MAX_DETACHED:
            return f"You have left {limits.MAX_DETACHED} sessions here already: end one of them first."
        return ""

    def _fit(self, visit: Visit) -> None:
        """The size of a session that its owner left is that of the terminal they come back with."""
        columns, rows = visit.size
        if self.detached and visit.mode in MAY_TYPE and columns and rows and self.detached.is_owner(visit):
            self._push(Resize(channel=self.log.channel, columns=columns, rows=rows))

    # Visitors.

    def may_enter(self, parties: Parties, source: str, mode: Mode, *, live: bool = False) -> Decision:
        """Asked when somebody comes and again and again while they stay."""
        cache, identity = self.gate.cache, parties.identity
        try:
            subject = Subject(identity, cache.roles_of(identity))
        except DeniedError as problem:
            return Decision(False, (problem.message,))
        env = self.gate.environment(source, live=live)
        return may_enter(self.rules, subject, mode, self.gate.node(), env)

    async def enter(self, visit: Visit) -> None:
        """Let somebody in who was just asked about. Raises AccessError: then they are not."""
        async with self.turn:
            decision = self.may_enter(visit.parties, visit.source, visit.mode)
            if self.state == "over" or not decision:  # attack A30
                raise DeniedError("the session is over, or may not be joined any more")
            if len(self._visits) >= limits.MAX_VISITORS:
                raise LimitExceededError(f"a session has room for {limits.MAX_VISITORS} visitors")
            visit.last_active = self.gate.now()
            await self.emit(codes.SESSION_JOIN, visit)
            self.log.took_part(visit.parties.identity.name)
            await self.log.mark("join", f"{visit.name} as {visit.mode}")
            self._visits[visit.id] = visit
            self.tell(f"{visit.name} joined the session as {visit.mode}.", but=visit)
            self._greet(visit)
            self._fit(visit)
            self._table.changed()
        await self._reconsider()

    async def refused(self, parties: Parties, mode: Mode, why: str) -> None:
        """Somebody wanted to join who may not."""
        await self.log.emit(codes.SESSION_REJECTED, None, **event_fields(parties, mode), reason=why)

    async def leave(self, visit: Visit, text: str) -> None:
        async with self.turn:
            if self._visits.pop(visit.id, None) is None:
                return
            visit.viewer.close(line(text))
            self.tell(f"{visit.name} left the session.")
            self._table.changed()
        try:
            await self.log.mark("leave", visit.name)
            await self.emit(codes.SESSION_LEAVE, visit)
        finally:
            # Whatever becomes of the record: they are not here any more (attack A30).
            await self._reconsider()

    def proven(self, user: str, at: float) -> None:
        """The Auth Service says that this user is there."""
        self._attendance.proven(user, at)
        self._later(self._reconsider())

    def dismiss(self, visit: Visit, text: str) -> None:
        """Have somebody leave, soon."""
        self._later(self.leave(visit, text))

    async def typed(self, visit: Visit, data: bytes) -> None:
        """Keys of somebody who is in it; what they do is said by their mode alone (attack A31)."""
        if visit.id not in self._visits:
            return
        visit.last_active = self.gate.now()
        if visit.mode in MAY_TYPE:
            if self.state == "running":
                self._push(PeerInput(channel=self.log.channel, data=data))
        elif _INTERRUPT in data:
            await self.leave(visit, "You left the session.")
        elif visit.mode in MAY_END and self._attendance.counts(visit):
            if _TERMINATE in data:
                await self.terminate(f"The session was terminated by the moderator {visit.name}.", visit.name)
            else:
                await self.copying.answered(visit, data)

    # Ends.

    async def terminate(self, text: str, by: str, reason: str = "") -> None:
        """End it for everybody, by the order of somebody who may."""
        async with self.turn:
            if self.state == "over":
                return
            await self.log.emit(codes.SESSION_TERMINATE, updated_by=by, reason=reason or None)
            await self.log.mark("note", text)
            self._end(text)

    async def kill(self, by: str, reason: str) -> None:
        """By an administrator's order."""
        why = f": {reason_of(reason)}" if reason else "."
        await self.terminate(f"The session was ended by {inert(by)}{why}", by, reason)

    def _end(self, text: str) -> None:
        pending, self.state = self.state == "pending", "over"
        for visit in self._visits.values():
            visit.viewer.close(line(text))
        if not self._push(SessionOver(channel=self.log.channel, text=line(text))):
            self._give_up(text)
        elif pending:
            self._on_over()
            self._later(self.finish(text))
        else:
            loop = asyncio.get_running_loop()
            self._grace = loop.call_later(limits.END_GRACE_S, self._give_up, text)

    # Whether it may run.

    def present(self) -> list[Participant]:
        """Those who are here, as far as they must show that, and may be, with the roles they have now. Whose
        connection was lost sees nothing of the session, and is not here until it is resumed."""
        here = []
        for visit in self._visits.values():
            if not (visit.is_here() and self._attendance.counts(visit)):
                continue
            if self.may_enter(visit.parties, visit.source, visit.mode, live=True):
                roles = self.gate.cache.roles_of(visit.parties.identity)
                here.append(Participant(visit.parties.identity, roles, visit.mode))
        return here

    async def _reconsider(self) -> None:
        async with self.turn:
            for visit in self._visits.values():
                if news := self._attendance.news(visit):
                    visit.viewer.show(line(news).encode())
            if self.state != "over" and (why := self.detached.over(self.gate.now(), self._visits.values())):
                await self.log.mark("note", why)
                self._end(why)
                return
            present = self.present()
            missing = joining.may_run(self.rules, present).reasons
            match self.state:
                case "pending" if not missing:
                    await self._run()
                case "pending" if missing != self._told:
                    self._told = missing
                    self.tell(f"Waiting for participants: {self._demands(missing)}")
                case "running" if missing:
                    if joining.when_left(self.rules, present) == "pause":
                        self._hold(True)
                        self.tell(f"The session is paused. Waiting for: {self._demands(missing)}")
                    else:
                        text = "The session was terminated: those whom it needs have left."
                        await self.log.mark("note", text)
                        self._end(text)
                case "paused" if not missing:
                    self._hold(False)
                    self.tell("The session is resumed.")
                case "paused" if joining.when_left(self.rules, present) == "terminate":
                    self._end("The session was terminated: those whom it needs have left.")

    async def _run(self) -> None:
        opened = await self._begin()
        if isinstance(opened, Refused):
            self._end(opened.text or "The session may not begin any more.")
            return
        self.state, self._ran = "running", True
        self._table.changed()
        self.tell("Everybody is here: the session begins.")
        if not self._push(SessionStarted(channel=self.log.channel, opened=opened)):
            self._give_up("the session cannot be started")

    def _hold(self, held: bool) -> None:
        self.state = "paused" if held else "running"
        self._table.changed()
        if not self._push(Held(channel=self.log.channel, held=held)):
            self._give_up("the session cannot be paused")

    # Words.

    def _demands(self, missing: tuple[str, ...]) -> str:
        if not self._request.verbose_demands:
            return "others who may watch this session."
        return names(missing[: limits.MAX_SHOWN_DEMANDS])

    def greeting(self) -> str:
        """For an owner who must wait."""
        self._told = self.lacks()
        lines = (
            f"Session {self.session_id} was created and waits for others. Nothing runs before they are here.",
            f"Waiting for participants: {self._demands(self._told)}",
            "Ctrl-C gives up.",
        )
        return "".join(map(line, lines))

    def _greet(self, visit: Visit) -> None:
        keys = {"observer": "Ctrl-C leaves.", "moderator": "Ctrl-C leaves, t ends the session for everybody."}
        how = keys.get(visit.mode, "What you type goes into the session; ~. leaves.")
        whose = f"{inert(self._owner.identity.name)} as {inert(self._owner.login)}"
        visit.viewer.show(line(f"You joined the session of {whose} as {visit.mode}. {how}").encode())
        if self._request.reason:
            visit.viewer.show(line(f"Its reason: {reason_of(self._request.reason)}").encode())
        if asking := self.copying.asking():
            visit.viewer.show(line(asking).encode())
        if self.state == "pending" and (missing := self.lacks()):
            visit.viewer.show(line(f"It waits for: {names(missing)}").encode())
        if any(0 < own < wanted for own, wanted in zip(visit.size, self._size, strict=True)):
            size = "x".join(map(str, self._size))
            visit.viewer.show(line(f"Its terminal has {size}; yours is smaller and shows a part.").encode())
        visit.viewer.show(self._replay.newest())
        if self._replay.full_screen:
            self._push(Redraw(channel=self.log.channel))

    def newest(self) -> bytes:
        return self._replay.newest()

    def tell(self, text: str, but: Visit | None = None) -> None:
        """Everybody in the session."""
        shown = line(text)
        self._push(Notice(channel=self.log.channel, text=shown))
        for visit in self._visits.values():
            if visit is not but:
                visit.viewer.show(shown.encode())

    # The record.

    async def emit(self, kind: codes.Kind, visit: Visit) -> None:
        await self.log.emit(kind, None, **event_fields(visit.parties, visit.mode))

    def tracker(self) -> SessionTracker:
        """What the cluster may know of it."""
        return tracker_of(
            self.session_id,
            "running" if self.state == "over" else self.state,
            self._created,
            self._owner,
            self._request,
            self._visits.values(),
            self.lacks(),
            detached=bool(self.detached),
        )

    def _later(self, work: Awaitable[None]) -> None:
        task = asyncio.ensure_future(self._logged(work))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _logged(self, work: Awaitable[None]) -> None:
        try:
            await work
        except AccessError as problem:
            # What cannot be audited does not go on.
            self._give_up(f"the session cannot go on: {problem.message}")
