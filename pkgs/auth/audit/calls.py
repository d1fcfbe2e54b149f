"""The calls about the audit log: hosts deliver, those entitled search, follow and verify."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable

import msgspec

from pkgs.auth import limits
from pkgs.auth.audit.log import AuditLog, check_query
from pkgs.auth.chunks import chunked
from pkgs.auth.permissions import Permissions
from pkgs.common.api.audit import AuditVerdict, EmitEvents, EventChunk, SearchEvents, VerifyAudit
from pkgs.common.api.login import Done
from pkgs.common.errors import InputError, LimitExceededError
from pkgs.common.events.codes import ALL_KINDS, Kind
from pkgs.common.events.format import bounded, unix_time
from pkgs.common.events.types import Event
from pkgs.common.recording.ids import require_session_id
from pkgs.common.resources.names import valid_host_id
from pkgs.common.rpc.calls import Caller

_OF_DATABASES = frozenset(kind.event for kind in ALL_KINDS if kind.event.startswith("db.session."))
FROM_HOSTS = _OF_DATABASES | frozenset(
    {
        "session.start",
        "session.join",
        "session.leave",
        "session.end",
        "session.file_transfer",
        "session.data",
        "session.connect",
        "session.rejected",
        "session.terminate",
        "resize",
        "client.disconnect",
        "exec",
        "subsystem",
        "port",
        "scp",
        "sftp",
        "sftp_summary",
        "x11-forward",
        "agent-forward",
        "auth",
    }
)
"""Names an agent or a proxy may tell; all others are the Auth Service's own to tell."""
NEEDS_SESSION = _OF_DATABASES | frozenset(
    {
        "session.start",
        "session.join",
        "session.leave",
        "session.end",
        "session.file_transfer",
        "session.data",
        "resize",
    }
)


class AuditHandlers:
    def __init__(
        self, log: AuditLog, permissions: Permissions, cluster_name: str, clock: Callable[[], float]
    ) -> None:
        self._log = log
        self._permissions = permissions
        self._cluster = cluster_name
        self._clock = clock

    async def emit(self, caller: Caller, request: EmitEvents) -> Done:
        """Stored under the caller's own host id, whatever the events say (attack A39)."""
        identity = caller.host()
        if len(request.events) > limits.MAX_EVENTS_PER_CALL:
            raise LimitExceededError(f"a delivery may hold {limits.MAX_EVENTS_PER_CALL} events")
        events = [self._checked(event, identity.name) for event in request.events]
        if events:
            await self._log.append(events, host_id=identity.name)
        return Done()

    def _checked(self, event: Event, host_id: str) -> Event:
        if event.event not in FROM_HOSTS or Kind(event.event, event.code) not in ALL_KINDS:
            raise InputError(f"a host cannot tell of {event.event[:60]!r} with code {event.code[:20]!r}")
        if not valid_host_id(event.uid):
            raise InputError("the uid of an event is a UUID")
        if unix_time(event) > self._clock() + limits.EVENT_FUTURE_S:
            raise InputError("the event is from the future", hint="check the clock of the host")
        sid = event.fields.get("sid")
        if sid is not None or event.event in NEEDS_SESSION:
            require_session_id(sid if isinstance(sid, str) else "")
        fields = {**event.fields, "server_id": host_id}
        return bounded(msgspec.structs.replace(event, cluster_name=self._cluster, fields=fields))

    async def search(self, caller: Caller, request: SearchEvents) -> AsyncIterator[EventChunk]:
        self._permissions.require(caller, "event", "list", "read")
        check_query(request)
        after, left = 0, request.limit
        if request.follow and not request.since:
            # Following without a beginning tells what happens from now on.
            after = await self._log.last_seq()
        while True:
            news = self._log.news()
            page = min(limits.SEARCH_PAGE, limits.SEARCH_PAGE if request.follow else left)
            found = await self._log.search(request, after=after, limit=page)
            for part in chunked(found, limits.SEARCH_PAGE):
                yield EventChunk(part)
            after = found[-1].seq if found else after
            left -= len(found)
            if not request.follow and (left <= 0 or len(found) < page):
                return
            if len(found) < page:
                await self._wait(news)
                # The user, or the right, may have been taken away since.
                self._permissions.admit(caller)
                self._permissions.require(caller, "event", "list", "read")

    async def _wait(self, news: asyncio.Event) -> None:
        try:
            async with asyncio.timeout(limits.FOLLOW_IDLE_S):
                await news.wait()
        except TimeoutError:
            return

    async def verify(self, caller: Caller, request: VerifyAudit) -> AuditVerdict:
        self._permissions.require(caller, "event", "list", "read")
        return await self._log.verify()
