"""How long recordings are kept: deleted by those who may, and by the cluster's own retention."""

from __future__ import annotations

import logging
from collections.abc import Callable

from pkgs.auth import limits
from pkgs.auth.audit.journal import Journal
from pkgs.auth.audit.log import AuditLog, SessionRow
from pkgs.auth.audit.recordings import RecordingHandlers, about, info_of
from pkgs.auth.permissions import Permissions
from pkgs.auth.state.store import Store
from pkgs.common.api.recordings import PrunedRecordings, PruneRecordings
from pkgs.common.errors import ConflictError, InputError
from pkgs.common.events.codes import SESSION_RECORDING_DELETE
from pkgs.common.resources.durations import parse_duration
from pkgs.common.resources.kinds import RecordingConfig
from pkgs.common.rpc.calls import Caller

_log = logging.getLogger(__name__)


class Keeping:
    def __init__(
        self,
        store: Store,
        log: AuditLog,
        recordings: RecordingHandlers,
        permissions: Permissions,
        journal: Journal,
        now: Callable[[], float],
    ) -> None:
        self._store = store
        self._log = log
        self._recordings = recordings
        self._permissions = permissions
        self._journal = journal
        self._now = now
        self._next = 0.0

    async def prune(self, caller: Caller, request: PruneRecordings) -> PrunedRecordings:
        self._permissions.require(caller, "session", "delete", any_object=True)
        if not 0 < request.ended_before <= self._now():
            raise InputError("recordings are pruned up to a moment in the past")
        rows = await self._log.recorded_before(request.ended_before, limits.RECORDING_LIST_MAX + 1)
        mine = [row for row in rows if self._permissions.decide(caller, about(row, "delete"))]
        if request.dry_run:
            shown = mine[: limits.RECORDING_LIST_MAX]
            more = len(rows) > limits.RECORDING_LIST_MAX
            return PrunedRecordings(recordings=[info_of(row) for row in shown], more=more)
        actor = self._journal.actor(caller)
        gone = [row for row in mine[: limits.PRUNED_AT_ONCE] if await self._delete(row, actor, "pruned")]
        return PrunedRecordings(
            recordings=[info_of(row) for row in gone], more=bool(gone) and len(mine) > limits.PRUNED_AT_ONCE
        )

    async def retain(self) -> None:
        """Delete what is older than the cluster keeps recordings; a bounded number, and not at every call."""
        if self._now() < self._next:
            return
        self._next = self._now() + limits.RETENTION_EVERY_S
        config = self._store.get("session_recording_config", "session-recording-config")
        keep_s = parse_duration(config.spec.retention) if isinstance(config, RecordingConfig) else 0.0
        if keep_s <= 0:
            return
        for row in await self._log.recorded_before(self._now() - keep_s, limits.PRUNED_AT_ONCE):
            await self._delete(row, "system", "retention")

    async def _delete(self, row: SessionRow, actor: str, reason: str) -> bool:
        """Told first: a deletion that dies half way is told again, never left untold."""
        await self._journal.write(
            self._journal.event(
                SESSION_RECORDING_DELETE,
                sid=row.session_id,
                user=actor,
                session_user=row.user,
                server_hostname=row.hostname,
                size=row.size,
                reason=reason,
            )
        )
        try:
            await self._recordings.discard(row.session_id)
        except ConflictError:
            _log.info("a recording that is arriving is not deleted", extra={"sid": row.session_id})
            return False
        return True
