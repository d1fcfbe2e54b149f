"""The service's view of one SSH connection: what its process asks, decided, recorded and audited.

One instance per connection; `common/ssh/process/monitor` calls it in order, one message at a time.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal

from pkgs.agents.ssh.forwards import Forwards
from pkgs.agents.ssh.gate import Gate
from pkgs.agents.ssh.holds import Holds
from pkgs.agents.ssh.hostusers.keeper import HostUsers
from pkgs.agents.ssh.hostusers.wanted import wanted_of
from pkgs.agents.ssh.leases import Leases, TooManyConnectionsError
from pkgs.agents.ssh.limits import MAX_SESSIONS_PER_CONNECTION, RECORD_HEAD
from pkgs.agents.ssh.messages import (
    Account,
    ForwardEnded,
    Idle,
    ListenerClosed,
    NoAccount,
    OnTerminal,
    OpenAgent,
    OpenForward,
    OpenListener,
)
from pkgs.agents.ssh.pamfacts import PamFacts
from pkgs.agents.ssh.records.book import Book
from pkgs.agents.ssh.together import visitor
from pkgs.agents.ssh.together.messages import GaveUp, Waiting
from pkgs.agents.ssh.together.owner import OwnSessions
from pkgs.agents.ssh.together.table import Table
from pkgs.agents.ssh.together.viewer import Push
from pkgs.agents.ssh.transfers import Transfers
from pkgs.common.access.joining import JOIN_LOGIN
from pkgs.common.errors import AccessError, InputError, ProtocolError
from pkgs.common.events import codes
from pkgs.common.events.format import new_event
from pkgs.common.events.types import Emitter, FieldValue
from pkgs.common.output.sanitize import inert
from pkgs.common.pki.identity import Identity
from pkgs.common.ssh.process.messages import Message, Refused, Start
from pkgs.common.ssh.process.monitor import Answer, Verdict
from pkgs.common.ssh.sessions.copies import is_copy
from pkgs.common.ssh.sessions.log import Parties, SessionLog
from pkgs.common.ssh.sessions.messages import (
    FileOperation,
    FileSummary,
    OpenSession,
    Output,
    OutputCut,
    Resized,
    SessionEnded,
    SessionOpened,
)
from pkgs.common.ssh.sessions.recordings import Recorder
from pkgs.common.ssh.sessions.unfinished import Unfinished

NO_COPIES = "file copying is not permitted"
NO_LONGER = "access is no longer allowed"
"""What a user reads whose connection ends, where nothing more may be said."""


@dataclass(frozen=True, slots=True)
class Shared:
    """What all connections of the service have in common."""

    gate: Gate
    emitter: Emitter
    recorder: Recorder
    unfinished: Unfinished
    proxy_addr: Callable[[], str]
    permit_user_env: bool
    single_user: bool
    log: logging.Logger
    leases: Leases
    host_users: HostUsers | None
    """None: this host makes no accounts."""
    book: Book
    pam: PamFacts
    max_processes: int = 0
    table: Table = field(default_factory=Table)


class SshConnection:
    """One connection, from its first certificate to its end."""

    def __init__(
        self,
        shared: Shared,
        start: Start,
        end: Callable[[str], None],
        on_closed: Callable[[SshConnection], None],
    ) -> None:
        self.identity: Identity | None = None
        self.login = ""
        self._shared = shared
        self._gate = shared.gate
        self._client_addr = start.client_addr
        self._source = _ip_of(start.client_addr)
        self._end = end
        self._on_closed = on_closed
        self._sessions: dict[int, SessionLog] = {}
        self._forwards: Forwards | None = None
        self._parties: Parties | None = None
        self._blob = b""
        self._why_over = ""
        self._cut_off = False
        """Whether it was ended here, not by its client or its process."""
        self._push: Push = lambda message: False
        self._own: OwnSessions | None = None
        self._visitor: visitor.Visitor | None = None
        self._in_company = False
        """Whether nothing was granted here but what waits for the company that roles require."""
        self._idle_timeout_s = 0.0
        self._transfers = Transfers(end, shared.log)
        self._holds = Holds(shared.leases, shared.host_users, shared.book)

    def can_push(self, push: Push) -> None:
        self._push = push

    # Login.

    def decide(self, user: str, blob: bytes) -> Verdict:
        if user == JOIN_LOGIN:
            return visitor.verdict(self._gate, blob, self._source)
        return self._gate.verdict(user, blob, self._source)

    async def refused(self, user: str, verdict: Verdict) -> None:
        node = self._gate.node()
        self._shared.book.refused(user, self._source)
        self._shared.log.info(
            "login refused", extra={"login": user, "addr": self._client_addr, "why": verdict.reason}
        )
        await self._emit(
            codes.AUTH_FAIL,
            {
                "user": verdict.user or None,
                "login": user,
                "success": False,
                "error": verdict.reason,
                "server_id": node.name,
                "server_hostname": node.spec.hostname,
                "addr.remote": self._client_addr,
                "proto": "ssh",
            },
        )

    async def authenticated(self, user: str, identity: Identity, blob: bytes) -> Message:
        options = self._gate.options(identity, user, self._source)
        cluster = self._gate.cache.cluster_name
        self._parties = Parties(identity, user, self._client_addr, self._gate.node, cluster)
        if user != JOIN_LOGIN:
            await self._take_hold(identity, user, blob, options.max_connections)
        self.identity, self.login, self._blob = identity, user, blob
        self._idle_timeout_s = options.client_idle_timeout_s
        self._shared.log.info(
            "login", extra={"user": identity.name, "login": user, "addr": self._client_addr}
        )
        table = self._shared.table
        if user == JOIN_LOGIN:
            self._visitor = visitor.Visitor(table, self._gate, self._parties, self._source, blob, self._push)
        else:
            self._own = OwnSessions(table, self._gate, self._push, self._end)
            self._forwards = Forwards(
                self._gate, identity, user, self._source, self._emit_mine, self._shared.log
            )
            self._in_company = not self._gate.decide(identity, user, self._source)
        return Account(
            visits=user == JOIN_LOGIN,
            login=user,
            user=identity.name,
            cluster=cluster,
            host_id=self._gate.node().name,
            proxy_addr=self._shared.proxy_addr(),
            permit_pty="permit-pty" in identity.extensions,
            permit_user_env=self._shared.permit_user_env,
            permit_file_copy=self._gate.may_copy(options),
            single_user=self._shared.single_user,
            idle_timeout_s=options.client_idle_timeout_s,
            max_processes=self._shared.max_processes,
            pam_service=self._shared.pam.service,
            pam_facts=self._shared.pam.of(identity, user) if self._shared.pam.service else {},
        )

    async def _take_hold(self, identity: Identity, user: str, blob: bytes, most: int) -> None:
        """What a connection that runs something holds while it lasts. Raises AccessError."""
        if most:
            await self._take_place(identity, user, blob, most)
        if self._shared.host_users is not None:
            wanted = wanted_of(self._gate.host_user(identity, user, self._source), identity.traits)
            await self._holds.take_account(user, wanted)

    async def _take_place(self, identity: Identity, login: str, blob: bytes, most: int) -> None:
        try:
            await self._holds.take_place(identity.name, most, blob, login, self._source, self.end)
        except TooManyConnectionsError as problem:
            assert self._parties is not None
            fields = {**self._parties.fields(), "reason": problem.message, "max": problem.most}
            await self._emit(codes.SESSION_REJECTED, fields)
            raise

    # Everything after it.

    async def handle(self, message: Message, answer: Answer) -> None:
        if isinstance(message, NoAccount):
            assert self.identity is not None
            await self.refused(self.login, Verdict(None, message.reason, self.identity.name))
            return
        if self._visitor is not None:
            await self._visitor.handle(message, answer)
            return
        assert self._own is not None
        match message:
            case OpenSession():
                await answer(await self._open_session(message))
            case Output(channel=channel, data=data):
                await self._session(channel).output(data)
                self._own.output(channel, data)
            case OutputCut(channel=channel):
                await self._session(channel).cut()
            case Resized(channel=channel, columns=columns, rows=rows):
                await self._session(channel).resize(columns, rows)
                self._own.resized(channel, columns, rows)
            case FileOperation():
                await self._transfers.operation(self._session(message.channel), message)
            case FileSummary():
                await self._transfers.summary(self._session(message.channel), message)
            case SessionEnded():
                session = self._session(message.channel)
                await self._transfers.settle(message.channel)
                del self._sessions[message.channel]
                await self._own.ended(message.channel)
                self._holds.off_terminal(message.channel)
                await session.end(message)
            case GaveUp(channel=channel):
                await self._own.gave_up(channel)
            case OnTerminal(channel=channel):
                self._session(channel)  # ended ones have no terminal
                self._holds.on_terminal(self.login, message, self._source)
            case Idle():
                self.end(f"the client was idle for {self._idle_timeout_s:g} seconds")
            case OpenForward() | ForwardEnded() | OpenListener() | ListenerClosed() | OpenAgent():
                assert self._forwards is not None
                await self._forwards.handle(message, answer)
            case _:
                raise ProtocolError("message is not one of a connection's process")

    async def closed(self) -> None:
        why = self._why_over or "the connection was lost"
        self._why_over = why
        for shared in (self._own, self._visitor):
            try:
                if shared is not None:
                    await shared.closed()
            except AccessError as problem:
                self._shared.log.error("the end of a session is not audited: %s", problem)
        for session in list(self._sessions.values()):
            ended = SessionEnded(channel=session.channel, status=255, error=why)
            await self._transfers.settle(session.channel)
            try:
                await session.end(ended)
            except AccessError as problem:
                self._shared.log.error("the end of a session is not audited: %s", problem)
            except Exception:
                # The others' ends are still to be said.
                self._shared.log.exception("the end of a session is not audited")
        self._sessions.clear()
        self._transfers.close()
        self._holds.release()
        try:
            if self._forwards is not None:
                await self._forwards.close()
        except AccessError as problem:
            self._shared.log.error("the end of a forwarding is not audited: %s", problem)
        self._on_closed(self)

    # While it lasts.

    def review(self, *, authorities: bool) -> None:
        """End the connection, with all its sessions and forwardings, if it would not be allowed now (attack
        A14): locks, roles, times, labels and authorities may have changed."""
        identity = self.identity
        if identity is None or self._why_over:
            return
        if self._visitor is not None:
            self._visitor.review(authorities=authorities, end=self._disconnect)
        else:
            self._review(identity, authorities=authorities)
        if not self._why_over and self._gate.now() >= _ends(identity) and self._gate.ends_expired(identity):
            self.end("the certificate has expired")

    def _review(self, identity: Identity, *, authorities: bool) -> None:
        decision = self._gate.decide(identity, self.login, self._source, live=True)
        if decision:
            self._in_company = False
        elif self._in_company:
            decision = self._gate.decide(identity, self.login, self._source, live=True, accompanied=True)
        if not decision:
            self._disconnect("; ".join(decision.reasons), decision.text or NO_LONGER)
        elif authorities and not self._gate.still_trusts(self._blob, identity, self.login, self._source):
            self._disconnect("the certificate's authority is no longer trusted", NO_LONGER)
        elif self._forwards is not None and self._forwards.too_much():
            self.end("forwarding is no longer permitted")
        elif self._transfers.live and not self._gate.may_copy(
            self._gate.options(identity, self.login, self._source)
        ):
            self._disconnect(NO_COPIES, NO_COPIES)
        elif self._own is not None:
            self._own.review()

    @property
    def logged_in(self) -> bool:
        """Whether somebody is here whom it was not ended for."""
        return self.identity is not None and not self._cut_off

    def may_go_on(self, client_addr: str) -> bool:
        """Whether its client, whose stream was lost, may take it up from this `ip:port` (attacks A08, A14).
        The identity stays what was proven at the login; what it is allowed is decided anew, and from now on
        for that address."""
        identity, source = self.identity, _ip_of(client_addr)
        if identity is None or self._cut_off:
            return False
        stays = source == self._source
        if self._visitor is not None:
            # What a visitor sees was decided for one address: from another they join anew.
            self._visitor.review(authorities=True, end=self._disconnect)
            return stays and not self._cut_off
        decision = self._gate.decide(identity, self.login, source, live=stays, accompanied=self._in_company)
        if not decision or not self._gate.still_trusts(self._blob, identity, self.login, source):
            return False
        if self._gate.now() >= _ends(identity) and self._gate.ends_expired(identity):
            return False
        self._source = source
        if self._forwards is not None:
            self._forwards.source = source
        return True

    def abandoned(self, why: str) -> None:
        """Its client is not waited for any more."""
        self.end(f"the connection was lost: {why}")

    def end(self, text: str) -> None:
        """End the connection; the text is for the user too."""
        if not self._why_over:
            self._disconnect(text, text)

    def _disconnect(self, reason: str, text: str) -> None:
        if self._parties is None:
            return
        self._why_over = reason
        self._cut_off = True
        self._end(text)
        fields = {**self._parties.fields(), "reason": reason}
        task = asyncio.ensure_future(self._emit(codes.CLIENT_DISCONNECT, fields))
        _background.add(task)
        task.add_done_callback(_background.discard)

    async def _open_session(self, request: OpenSession) -> SessionOpened | Waiting | Refused:
        assert self.identity is not None and self._parties is not None and self._own is not None
        # Who needs company gets nothing but a terminal, which waits for it (attack A30).
        on_terminal = request.pty and request.kind != "subsystem"
        decision = self._gate.decide(self.identity, self.login, self._source, accompanied=on_terminal)
        if not decision:
            await self._reject(request, "; ".join(decision.reasons))
            return Refused(text=decision.text or "access denied")
        options = self._gate.options(self.identity, self.login, self._source)
        open_now = len(self._sessions) + self._own.waiting
        if options.max_sessions and open_now >= options.max_sessions:
            await self._reject(request, "too many sessions", options.max_sessions)
            return Refused(text=f"too many sessions: the limit is {options.max_sessions}")
        if request.channel in self._sessions:
            raise ProtocolError("a channel has one session")
        if open_now >= MAX_SESSIONS_PER_CONNECTION:
            # An honest process counts itself: each session holds a file of this one open.
            raise ProtocolError("more sessions than a connection may have")
        forced, why = self._confined(request)
        if why:
            await self._reject(request, why)
            return Refused(text=inert(why))
        if not self._gate.may_copy(options) and not forced and (copies := is_copy(request)):
            kind = codes.SFTP_DISALLOWED if copies == "sftp" else codes.SCP_DISALLOWED
            await self._emit(kind, {**self._parties.fields(), "command": request.command, "error": NO_COPIES})
            return Refused(text=NO_COPIES)
        command = forced or (request.command if request.kind == "exec" else "")
        session = SessionLog(
            self._parties,
            request,
            command,
            self._shared.emitter,
            self._shared.recorder,
            self._shared.unfinished,
            strict=options.record_strict,
            give_up=self._end,
            now=self._gate.now,
            log=self._shared.log,
        )

        async def begin() -> SessionOpened | Refused:
            return await self._begin(request, session, forced, on_terminal)

        if not on_terminal:
            return await begin()
        return await self._own.open(request, self._parties, session, begin)

    def _confined(self, request: OpenSession) -> tuple[str, str]:
        """The command that runs whatever was asked for, if there is one; and why nothing may run."""
        assert self.identity is not None
        try:
            confined = self._gate.confinement(self.identity, self.login, self._source)
            forced = confined.forced_command(self.identity.force_command)
        except InputError as problem:
            return "", str(problem)
        if forced:
            return forced, ""
        return "", confined.refusal(request.kind, request.command, exact=request.exact)

    async def _begin(
        self, request: OpenSession, session: SessionLog, forced: str, on_terminal: bool
    ) -> SessionOpened | Refused:
        """It runs from now on, if the user may still have it: they may have waited for long."""
        assert self.identity is not None
        decision = self._gate.decide(self.identity, self.login, self._source, accompanied=on_terminal)
        if not decision or self._why_over:
            return Refused(text=decision.text or "access denied")
        if self._confined(request) != (forced, ""):
            return Refused(text="what may run here has changed; try again")
        try:
            await session.begin()
            if request.kind == "subsystem":
                await session.emit(codes.SUBSYSTEM, name=request.command)
        except AccessError as problem:
            self._shared.log.error(
                "no session without its record: %s", problem, extra={"detail": problem.detail}
            )
            return Refused(text=problem.message)
        self._sessions[request.channel] = session
        if not forced and is_copy(request):
            self._transfers.began(request.channel)
        return SessionOpened(
            session_id=session.session_id,
            forced_command=forced,
            record=_record_of(request, session, on_terminal),
            record_limit=RECORD_HEAD,
        )

    async def _reject(self, request: OpenSession, reason: str, most: int | None = None) -> None:
        assert self._parties is not None
        await self._emit(
            codes.SESSION_REJECTED,
            {**self._parties.fields(), "reason": reason, "max": most, "command": request.command or None},
        )

    async def _emit_mine(self, kind: codes.Kind, fields: dict[str, FieldValue]) -> None:
        assert self._parties is not None
        await self._emit(kind, {**self._parties.fields(), **fields})

    async def _emit(self, kind: codes.Kind, fields: dict[str, FieldValue]) -> None:
        event = new_event(
            kind, cluster_name=self._gate.cache.cluster_name, now=self._gate.now(), ei=0, **fields
        )
        await self._shared.emitter.emit(event)

    def _session(self, channel: int) -> SessionLog:
        try:
            return self._sessions[channel]
        except KeyError:
            raise ProtocolError("no session on that channel") from None


def _record_of(
    request: OpenSession, session: SessionLog, on_terminal: bool
) -> Literal["all", "head", "none"]:
    """Which output the process sends: what is on a terminal may be watched, recorded or not."""
    if on_terminal or (request.pty and session.is_recorded):
        return "all"
    return "head" if session.is_recorded else "none"


def _ip_of(client_addr: str) -> str:
    return client_addr.rpartition(":")[0].strip("[]")


def _ends(identity: Identity) -> float:
    """A certificate for one session lives for a minute: what counts is the one it was made from."""
    return identity.previous_expires_at or identity.expires_at


_background: set[asyncio.Future[None]] = set()
