"""The calls about live sessions: agents report and listen, people list and end."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import msgspec

from pkgs.auth.audit.journal import Journal
from pkgs.auth.chunks import chunked
from pkgs.auth.permissions import Permissions
from pkgs.auth.sessions import limits
from pkgs.auth.sessions.door import Door
from pkgs.auth.sessions.trackers import Trackers
from pkgs.common.access.types import UseRule
from pkgs.common.api.login import Done
from pkgs.common.api.sessions import (
    AskTransfer,
    DetachSession,
    KillSession,
    ListSessions,
    ReportSessions,
    SessionChunk,
    SessionOrder,
    SessionOrders,
    SessionTracker,
)
from pkgs.common.errors import DeniedError, InputError, LimitExceededError, NotFoundError, UnavailableError
from pkgs.common.events.codes import SESSION_TERMINATE
from pkgs.common.pki.identity import PeerKind, SystemRole
from pkgs.common.recording.ids import require_session_id
from pkgs.common.resources.role import Role
from pkgs.common.rpc.calls import Caller

KIND = "session_tracker"


class SessionHandlers:
    def __init__(self, trackers: Trackers, permissions: Permissions, journal: Journal, door: Door) -> None:
        self._trackers = trackers
        self._permissions = permissions
        self._journal = journal
        self._door = door

    # Agents.

    async def report(self, caller: Caller, request: ReportSessions) -> Done:
        """Kept under the caller's own host id, whatever the sessions say (attack A39)."""
        self._trackers.report(_agent(caller), request.sessions, first=request.first, last=request.last)
        return Done()

    async def orders(self, caller: Caller, request: SessionOrders) -> AsyncIterator[SessionOrder]:
        host_id = _agent(caller)
        queue = self._trackers.listen(host_id)
        try:
            yield SessionOrder(session_id="")
            while True:
                try:
                    async with asyncio.timeout(limits.IDLE_S):
                        order = await queue.get()
                except TimeoutError:
                    self._permissions.admit(caller)  # the host may have been locked since
                    continue
                yield order
        finally:
            self._trackers.forget(host_id, queue)

    # People.

    async def list(self, caller: Caller, request: ListSessions) -> AsyncIterator[SessionChunk]:
        found = [
            session
            for session in self._trackers.all()
            if (not request.kind or session.kind == request.kind)
            and (not request.session_id or session.session_id == request.session_id)
        ]
        roles = self._door.roles_of(caller)
        seen = [session for session in found if self._may_see(caller, roles, session)]
        for part in chunked([self._for(roles, session) for session in seen]):
            yield SessionChunk(part)

    def _for(self, roles: tuple[Role, ...], session: SessionTracker) -> SessionTracker:
        return msgspec.structs.replace(session, proves=self._door.must_prove(roles, session))

    def _may_see(self, caller: Caller, roles: tuple[Role, ...], session: SessionTracker) -> bool:
        """By the rule, because it is theirs, or because they may join it."""
        if self._permissions.decide(caller, _rule("list", session)):
            return True
        identity = caller.identity
        if identity is None or identity.kind is not PeerKind.USER:
            return False
        if (identity.name, identity.cluster) == (session.host_user, session.owner_cluster):
            return True
        return bool(self._door.modes(caller, roles, session))

    async def detach(self, caller: Caller, request: DetachSession) -> Done:
        """The server decides anew, and has it in the audit log."""
        session = self._own(caller, request.session_id)
        if session.detached:
            raise InputError("this session is detached already", hint="'tsh join' brings you back to it")
        self._order(session, SessionOrder(session_id=session.session_id, what="detach", by=session.host_user))
        return Done()

    async def ask_transfer(self, caller: Caller, request: AskTransfer) -> Done:
        """The server asks those who are in the session, and has their answers in the audit log."""
        session = self._own(caller, request.session_id)
        _check_reason(request.reason)
        order = SessionOrder(
            session_id=session.session_id, what="copy", by=session.host_user, reason=request.reason
        )
        self._order(session, order)
        return Done()

    def _own(self, caller: Caller, session_id: str) -> SessionTracker:
        """A session that runs, for its owner alone, in person. Raises NotFoundError for one of somebody
        else, InputError for one that waits."""
        identity = caller.identity
        if identity is None or identity.kind is not PeerKind.USER or identity.impersonator:
            raise DeniedError("only the owner of a session may order this, under their own name")
        session = self._trackers.find(require_session_id(session_id))  # attack A60
        if (
            session is None
            or (identity.name, identity.cluster) != (session.host_user, session.owner_cluster)
            or "peer" not in self._door.modes(caller, self._door.roles_of(caller), session)
        ):
            raise NotFoundError(
                "you have no such session, or could not come back to it",
                hint="'tsh sessions ls' lists yours",
            )
        if session.state == "pending":
            raise InputError("this session waits for others and does not run yet", hint="Ctrl-C gives it up")
        return session

    def _order(self, session: SessionTracker, order: SessionOrder) -> None:
        if not self._trackers.reachable(session.host_id):
            raise UnavailableError("the server of this session is not connected to the Auth Service now")
        self._trackers.order(session.host_id, order)

    async def kill(self, caller: Caller, request: KillSession) -> Done:
        """By the verb `delete`. Answered once the order is on its way; the server says how it went in the
        audit log."""
        self._permissions.require(caller, KIND, "delete", any_object=True)
        session = self._trackers.find(require_session_id(request.session_id))  # attack A60
        if session is None or not self._permissions.decide(caller, _rule("delete", session)):
            raise NotFoundError("there is no such session", hint="`tctl sessions ls` lists them")
        _check_reason(request.reason)
        if not self._trackers.reachable(session.host_id):
            raise UnavailableError(
                "the server of this session is not connected to the Auth Service now",
                hint="`tctl lock --user` ends what somebody does as soon as the server is back",
            )
        actor = self._journal.actor(caller)
        await self._journal.write(
            self._journal.event(
                SESSION_TERMINATE,
                sid=session.session_id,
                user=session.host_user,
                login=session.login,
                server_id=session.host_id,
                server_hostname=session.target_hostname,
                updated_by=actor,
                reason=request.reason or None,
            )
        )
        order = SessionOrder(session_id=session.session_id, reason=request.reason, by=actor)
        self._trackers.order(session.host_id, order)
        return Done()


def _check_reason(text: str) -> None:
    if len(text) > limits.MAX_REASON:
        raise LimitExceededError(f"a reason may have {limits.MAX_REASON} characters")


def _agent(caller: Caller) -> str:
    identity = caller.host()
    if not identity.is_host(SystemRole.NODE):
        raise DeniedError("only agents have sessions")
    return identity.name


def _rule(verb: str, session: SessionTracker) -> UseRule:
    return UseRule(
        kind=KIND,
        verb=verb,
        owner=session.host_user,
        participants=tuple(who.user for who in session.participants),
        login=session.login,
        server_hostname=session.target_hostname,
    )
