"""The service's view of one SSH connection: what its process asks, decided, recorded and audited.

One instance per connection; `common/ssh/process/monitor` calls it in order, one message at a time.
"""

from __future__ import annotations

import logging
import os
import pwd
from collections.abc import Callable
from dataclasses import dataclass, field, replace

from pkgs.agents.base.leases import Leases, TooManyConnectionsError
from pkgs.agents.ssh.forwards import Forwards, FromForwarding
from pkgs.agents.ssh.holds import Holds
from pkgs.agents.ssh.hostusers.keeper import HostUsers
from pkgs.agents.ssh.hostusers.wanted import wanted_of
from pkgs.agents.ssh.messages import (
    Account,
    NoAccount,
    OnTerminal,
)
from pkgs.agents.ssh.pamfacts import PamFacts
from pkgs.agents.ssh.records.book import Book
from pkgs.agents.ssh.together import limits, visitor
from pkgs.agents.ssh.together.files import beside
from pkgs.agents.ssh.together.messages import GaveUp, Waiting
from pkgs.agents.ssh.together.owner import OwnSessions
from pkgs.agents.ssh.together.table import Table
from pkgs.agents.ssh.together.viewer import Push
from pkgs.agents.ssh.transfers import Transfers
from pkgs.common.access.joining import JOIN_LOGIN
from pkgs.common.access.types import Decision
from pkgs.common.errors import AccessError, ProtocolError
from pkgs.common.events import codes
from pkgs.common.events.types import Emitter
from pkgs.common.net.dial import split_host_port
from pkgs.common.pki.identity import Identity
from pkgs.common.sessions.recordings import Recorder
from pkgs.common.sessions.unfinished import Unfinished
from pkgs.common.ssh.process.messages import Idle, Message, Refused, Start
from pkgs.common.ssh.process.monitor import Answer, Verdict
from pkgs.common.ssh.service.audit import Audit
from pkgs.common.ssh.service.client import Client
from pkgs.common.ssh.service.ending import Ending
from pkgs.common.ssh.service.gate import EXPIRED, NO_LONGER, Gate
from pkgs.common.ssh.service.sessions import DENIED, NO_COPIES, Sessions
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
        self.client: Client | None = None
        """Once somebody has logged in."""
        self._shared = shared
        self._gate = shared.gate
        self._client_addr = start.client_addr
        self._source = split_host_port(start.client_addr)[0]
        self._on_closed = on_closed
        self._audit = Audit(self._gate, shared.emitter, self._gate.node, start.client_addr, shared.log)
        self._ending = Ending(end, self._audit, shared.log)
        self._sessions = Sessions(self._gate, shared, self._audit, self._ending)
        self._forwards: Forwards | None = None
        self._push: Push = lambda message: False
        self._own: OwnSessions | None = None
        self._visitor: visitor.Visitor | None = None
        self._beside: beside.Beside | None = None
        self._in_company = False
        """Whether nothing was granted here but what waits for the company that roles require."""
        self._idle_timeout_s = 0.0
        self._transfers = Transfers(end, shared.log)
        self._holds = Holds(shared.leases, shared.host_users, shared.book)
        self._is_here: Callable[[], bool] = lambda: True

    def can_push(self, push: Push) -> None:
        self._push = push

    # Login.

    def decide(self, user: str, blob: bytes) -> Verdict:
        if user == JOIN_LOGIN:
            return visitor.verdict(self._gate, blob, self._source)
        verdict = self._gate.verdict(user, blob, self._source, accompanied=True)
        if verdict.identity is not None and (refusal := cannot_become(user)):
            return Verdict(None, refusal, verdict.identity.name, refusal)
        return verdict

    async def refused(self, user: str, verdict: Verdict) -> None:
        self._shared.book.refused(user, self._source)
        await self._audit.refused(user, verdict)

    async def authenticated(self, user: str, identity: Identity, blob: bytes) -> Message:
        options = self._gate.options(identity, user, self._source)
        parties = self._audit.logs_in(identity, user)
        if user != JOIN_LOGIN:
            await self._take_hold(identity, user, blob, options.max_connections)
        self.client = Client(identity, user, blob, self._source)
        self._idle_timeout_s = options.client_idle_timeout_s
        self._shared.log.info(
            "login", extra={"user": identity.name, "login": user, "addr": self._client_addr}
        )
        table = self._shared.table
        if user == JOIN_LOGIN:
            self._visitor = visitor.Visitor(
                table, self._gate, parties, self._source, blob, self._push, self._is_here
            )
        else:
            self._own = OwnSessions(table, self._gate, self._push, self._ending.hang_up)
            self._forwards = Forwards(
                self._gate, identity, user, self._source, self._audit.emit, self._shared.log
            )
            self._beside = beside.Beside(table, identity, user)
            self._in_company = not self._gate.decide(identity, user, self._source)
        return Account(
            visits=user == JOIN_LOGIN,
            # Whoever is frozen or cut off does not watch (attack A30).
            alive_every_s=limits.VISITOR_ALIVE_S if user == JOIN_LOGIN else 0.0,
            login=user,
            user=identity.name,
            cluster=self._gate.cache.cluster_name,
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
            wanted = wanted_of(self._gate.host_user(identity, self._source), identity.traits)
            await self._holds.take_account(user, wanted)

    async def _take_place(self, identity: Identity, login: str, blob: bytes, most: int) -> None:
        try:
            await self._holds.take_place(identity.name, most, blob, login, self._source, self.end)
        except TooManyConnectionsError as problem:
            await self._audit.emit(codes.SESSION_REJECTED, {"reason": problem.message, "max": problem.most})
            raise

    # Everything after it.

    async def handle(self, message: Message, answer: Answer) -> None:
        client = self.client
        assert client is not None
        if isinstance(message, NoAccount):
            await self.refused(client.login, Verdict(None, message.reason, client.identity.name))
            return
        if self._visitor is not None:
            await self._visitor.handle(message, answer)
            return
        assert self._own is not None and self._beside is not None
        match message:
            case OpenSession():
                opened = await self._open_session(client, message)
                if isinstance(opened, Refused):
                    self._beside.ended(message.channel)
                await answer(opened)
            case Output(channel=channel, data=data):
                await self._sessions.record(message)
                self._own.output(channel, data)
            case OutputCut():
                await self._sessions.record(message)
            case Resized(channel=channel, columns=columns, rows=rows):
                await self._sessions.record(message)
                self._own.resized(channel, columns, rows)
            case FileOperation():
                await self._transfers.operation(self._sessions[message.channel], message)
                self._beside.operation(message)
            case FileSummary():
                await self._transfers.summary(self._sessions[message.channel], message)
            case SessionEnded(channel=channel):
                _ = self._sessions[channel]  # one that waits has nothing to end
                await self._transfers.settle(channel)
                await self._own.ended(channel)
                self._beside.ended(channel)
                self._holds.off_terminal(channel)
                await self._sessions.end(message)
            case GaveUp(channel=channel):
                await self._own.gave_up(channel)
            case OnTerminal(channel=channel):
                _ = self._sessions[channel]  # ended ones have no terminal
                self._holds.on_terminal(client.login, message, client.source)
            case Idle():
                self.end(f"the client was idle for {self._idle_timeout_s:g} seconds")
            case _ if isinstance(message, FromForwarding):
                assert self._forwards is not None
                await self._forwards.handle(message, answer)
            case _:
                raise ProtocolError("message is not one of a connection's process")

    async def closed(self) -> None:
        why = self._ending.gone()
        for shared in (self._own, self._visitor):
            try:
                if shared is not None:
                    await shared.closed()
            except AccessError as problem:
                self._shared.log.error("the end of a session is not audited: %s", problem)
        for channel in self._sessions:
            await self._transfers.settle(channel)
        await self._sessions.close(why)
        if self._beside is not None:
            self._beside.close()
        self._transfers.close()
        self._holds.release()
        try:
            if self._forwards is not None:
                await self._forwards.close()
        except AccessError as problem:
            self._shared.log.error("the end of a forwarding is not audited: %s", problem)
        await self._ending.told()
        self._on_closed(self)

    # While it lasts.

    def review(self, *, authorities: bool) -> None:
        """End the connection, with all its sessions and forwardings, if it would not be allowed now (attack
        A14): locks, roles, times, labels and authorities may have changed."""
        client = self.client
        if client is None or self._ending.why:
            return
        if self._visitor is not None:
            self._visitor.review(authorities=authorities, end=self._ending.cut)
            if not self._ending.why and self._gate.has_expired(client.identity):
                self.end(EXPIRED)
            return
        decision = self._stays(client, authorities=authorities)
        if not decision:
            self._ending.cut("; ".join(decision.reasons), decision.text or NO_LONGER)
        elif self._forwards is not None and self._forwards.too_much():
            self.end("forwarding is no longer permitted")
        elif self._transfers.live and not self._gate.may_copy(
            self._gate.options(client.identity, client.login, client.source)
        ):
            self.end(NO_COPIES)
        elif self._beside is not None and not self._beside.may_go_on:
            self.end("those who approved of the copying are not there any more")
        elif self._own is not None:
            self._own.review()

    def _stays(self, client: Client, *, authorities: bool) -> Decision:
        decision = self._gate.stays(client, authorities=authorities)
        if decision:
            self._in_company = False
        elif self._in_company:
            decision = self._gate.stays(client, authorities=authorities, accompanied=True)
        return decision

    @property
    def logged_in(self) -> bool:
        """Whether somebody is here whom it was not ended for."""
        return self.client is not None and not self._ending.cut_off

    def may_go_on(self, client_addr: str) -> bool:
        """Whether its client, whose stream was lost, may take it up from this `ip:port` (attacks A08, A14).
        The identity stays what was proven at the login; what it is allowed is decided anew, and from now on
        for that address."""
        client, source = self.client, split_host_port(client_addr)[0]
        if client is None or self._ending.cut_off:
            return False
        same = source == client.source
        if self._visitor is not None:
            # What a visitor sees was decided for one address: from another they join anew.
            self._visitor.review(authorities=True, end=self._ending.cut)
            return same and not self._ending.cut_off
        moved = replace(client, source=source)
        if not self._gate.stays(moved, authorities=True, live=same, accompanied=self._in_company):
            return False
        client.source = source
        self._audit.moved(client_addr)
        if self._forwards is not None:
            self._forwards.source = source
        return True

    def can_be_away(self, is_here: Callable[[], bool]) -> None:
        self._is_here = is_here

    def abandoned(self, why: str) -> None:
        """Its client is not waited for any more."""
        if self._own is not None and self._own.detached:
            return  # those sessions go on; all else ends with the client's stream
        self.end(f"the connection was lost: {why}")

    def end(self, text: str) -> None:
        """End the connection; the text is for the user too."""
        self._ending.end(text)

    async def _open_session(self, client: Client, request: OpenSession) -> SessionOpened | Waiting | Refused:
        assert self._own is not None and self._beside is not None
        # Who needs company gets nothing but a terminal, which waits for it (attack A30).
        on_terminal = request.pty and request.kind != "subsystem"
        approved = self._in_company and self._beside.take(request)
        session = await self._sessions.admit(
            client,
            request,
            accompanied=on_terminal or approved,
            watched=on_terminal,
            waiting=self._own.waiting,
        )
        if isinstance(session, Refused):
            asks = self._in_company and request.kind == "subsystem" and session.text == DENIED
            return Refused(text=beside.HOW) if asks else session
        # Asked once a proxy's word counts for the id: others would learn which ids are in use (attack A40).
        if any(other.session_id == session.log.session_id for other in self._shared.table.all()):
            raise ProtocolError("there is a session of that id")

        async def begin() -> SessionOpened | Refused:
            opened = await self._sessions.begin(session)
            if session.copies and isinstance(opened, SessionOpened):
                self._transfers.began(request.channel)
            return opened

        if not on_terminal:
            return await begin()
        assert self._audit.parties is not None
        return await self._own.open(request, self._audit.parties, session.log, begin)


def cannot_become(login: str) -> str:
    """Why this process could not become that login; empty when it can."""
    if os.geteuid() == 0:
        return ""
    own = pwd.getpwuid(os.geteuid()).pw_name
    if login == own:
        return ""
    return f"this host's agent runs as {own} and can only serve that login"
