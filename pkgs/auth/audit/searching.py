"""Finding words on the screens of recorded sessions."""

from __future__ import annotations

from collections.abc import AsyncIterator

from pkgs.auth import limits
from pkgs.auth.audit.journal import Journal
from pkgs.auth.audit.lockedlines import Effort, Hit
from pkgs.auth.audit.log import AuditLog, SessionRow
from pkgs.auth.audit.recordings import RecordingHandlers
from pkgs.auth.audit.screens import Screens, check_pattern
from pkgs.common.api.recordings import FoundLine, FoundLines, SearchRecordings
from pkgs.common.errors import LimitExceededError
from pkgs.common.events.codes import SESSION_RECORDING_ACCESS
from pkgs.common.rpc.calls import Caller

_FIRST = (1 << 63) - 1


class SearchHandlers:
    def __init__(
        self, log: AuditLog, screens: Screens, recordings: RecordingHandlers, journal: Journal
    ) -> None:
        self._log = log
        self._screens = screens
        self._recordings = recordings
        self._journal = journal

    async def search(self, caller: Caller, request: SearchRecordings) -> AsyncIterator[FoundLines]:
        check_pattern(request.pattern)
        if not 1 <= request.limit <= limits.RECORDING_LIST_MAX:
            raise LimitExceededError(f"a search answers 1 to {limits.RECORDING_LIST_MAX} lines")
        before, left, scanned = _FIRST, request.limit, 0
        known: dict[str, SessionRow | None] = {}
        effort = Effort()
        while left > 0 and scanned < limits.SCREEN_HITS_SCANNED:
            hits = await self._screens.search(
                request.pattern, before=before, limit=limits.SEARCH_PAGE, effort=effort
            )
            scanned += len(hits)
            shown: list[FoundLine] = []
            for hit in hits:
                if len(shown) == left:
                    break
                if hit.session_id not in known:
                    known[hit.session_id] = await self._seen(caller, request, hit.session_id)
                if (row := known[hit.session_id]) is not None:
                    shown.append(_line(hit, row))
            if shown:
                yield FoundLines(shown)
            left -= len(shown)
            if len(hits) < limits.SEARCH_PAGE:
                return
            before = hits[-1].id

    async def _seen(self, caller: Caller, request: SearchRecordings, sid: str) -> SessionRow | None:
        """The session if its lines are to be shown; then that is in the audit log first."""
        row = await self._log.session(sid)
        if row is None or not self._recordings.may_play(caller, row):
            return None
        if request.user not in ("", row.user) or row.started < request.since:
            return None
        if request.until and row.started >= request.until:
            return None
        await self._journal.write(
            self._journal.event(
                SESSION_RECORDING_ACCESS,
                sid=sid,
                user=self._journal.actor(caller),
                session_type=row.kind,
                format="search",
            )
        )
        return row


def _line(hit: Hit, row: SessionRow) -> FoundLine:
    return FoundLine(
        session_id=hit.session_id,
        ms=hit.ms,
        text=hit.text,
        user=row.user,
        login=row.login,
        hostname=row.hostname,
        started=row.started,
    )
