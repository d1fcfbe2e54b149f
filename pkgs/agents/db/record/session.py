"""The record of one database session: its audit events in order, and its recording.

begin (the start is durable) -> statements and what they came to -> end; or refused, and nothing else

A recording shows statements and outcomes as lines, so that everything that plays a session plays these too.
"""

from __future__ import annotations

import asyncio
import logging
import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from time import monotonic

import msgspec

from pkgs.agents.db import limits
from pkgs.agents.db.engine import Asked, Fact, Granted
from pkgs.agents.db.record.facts import event_of, shown
from pkgs.agents.db.users.accounts import Given
from pkgs.common.access.matching.labels import labels_of
from pkgs.common.errors import AccessError, UnavailableError
from pkgs.common.events import codes
from pkgs.common.events.codes import Kind
from pkgs.common.events.format import LAST_INDEX, Series, new_event, rfc3339
from pkgs.common.events.types import Event, FieldValue, Poster
from pkgs.common.pki.identity import Identity
from pkgs.common.recording.model import SessionMeta
from pkgs.common.resources.kinds import Database
from pkgs.common.sessions.recordings import Recorder, Recording
from pkgs.common.sessions.unfinished import Unfinished


@dataclass(frozen=True, slots=True)
class Keeping:
    """Where a service keeps what its users do."""

    emitter: Poster
    recorder: Recorder
    unfinished: Unfinished
    log: logging.Logger
    now: Callable[[], float]
    cluster_name: str
    host_id: str
    hostname: str

    async def emit(self, kind: Kind, fields: Mapping[str, FieldValue]) -> None:
        """What comes after a session's end. Raises AccessError when it cannot be kept."""
        event = new_event(kind, cluster_name=self.cluster_name, now=self.now(), ei=LAST_INDEX, **fields)
        await self.emitter.emit(event)


class SessionRecord:
    def __init__(self, keeping: Keeping, identity: Identity, database: Database, client_addr: str) -> None:
        self.session_id = str(uuid.uuid4())
        self._keeping = keeping
        self._identity = identity
        self._database = database
        self._client_addr = client_addr
        self._asked = Asked("")
        self._granted: Granted | None = None
        self._fixed: dict[str, FieldValue] = {}
        """Of every event, from the start on."""
        self._series = Series("", {})
        self._strict = False
        self._give_up: Callable[[str], None] = lambda text: None
        self._recording: Recording | None = None
        self._end_uid = str(uuid.uuid4())
        self._started = keeping.now()
        self._index = 0
        self._lost = ""
        self._begun = False
        self._unshown: list[Fact] = []
        """For the recording."""
        self._showing: asyncio.TimerHandle | None = None
        self._flush: asyncio.TimerHandle | None = None

    async def refused(self, asked: Asked, reason: str, text: str) -> None:
        """Nothing begins. Raises AccessError when that cannot be kept."""
        self._asked = asked
        await self._emit(
            codes.DB_SESSION_START_FAIL,
            success=False,
            error=reason,
            message=text,
            client_metadata={"user_agent": asked.agent},
        )

    async def begin(
        self, asked: Asked, granted: Granted, *, strict: bool, give_up: Callable[[str], None]
    ) -> None:
        """The start is durable when this returns. `strict`: no session without a recording; then `give_up`
        is called when it is lost. Raises UnavailableError."""
        self._asked, self._granted, self._strict, self._give_up = asked, granted, strict, give_up
        self._fixed = self._parties()
        self._series = Series(self._keeping.cluster_name, self._fixed)
        if self._keeping.recorder.mode != "off":
            self._open_recording()
        self._keeping.unfinished.keep(self.session_id, self._end_event("the service was killed"))
        try:
            await self._emit(
                codes.DB_SESSION_START,
                success=True,
                client_metadata={"user_agent": asked.agent},
                session_recording="off" if self._recording is None else self._keeping.recorder.mode,
            )
        except AccessError:
            self._keeping.unfinished.forget(self.session_id)
            if self._recording is not None:
                self._recording.abandon(discard=True)
            raise
        self._begun = True

    @property
    def parties(self) -> dict[str, FieldValue]:
        """Fields of every event, from the start on."""
        return dict(self._fixed)

    def know(self, fields: Mapping[str, int]) -> None:
        """More fields of every event from now on; the end that is noted for a crash goes without."""
        self._fixed.update(fields)
        self._series = Series(self._keeping.cluster_name, self._fixed)

    async def user_made(self, username: str, roles: Sequence[str], error: str = "") -> None:
        """The database user is ready, or with an `error` is not. Raises AccessError when that cannot be
        kept."""
        await self._emit(
            codes.DB_SESSION_USER_CREATE_FAIL if error else codes.DB_SESSION_USER_CREATE,
            username=username,
            roles=list(roles),
            success=not error,
            error=error or None,
        )

    async def permissions_given(self, given: Given) -> None:
        """What it may do with the objects inside. Raises AccessError when that cannot be kept."""
        await self._emit(
            codes.DB_SESSION_PERMISSIONS_UPDATE,
            permission_summary=[
                {"permission": name, "counts": counts} for name, counts in given.permissions.items()
            ],
            affected_object_counts=given.objects,
        )

    def tell(self, facts: Sequence[Fact]) -> asyncio.Future[None]:
        """What happened, in its order. The operating system has it when this returns; it is durable when the
        future is done. Raises AccessError when it cannot be kept, and the future does."""
        payloads: list[bytes] = []
        time = rfc3339(self._keeping.now())
        for fact in facts:
            kind, fields = event_of(fact)
            if kind is not None:
                payloads.append(self._series.payload(kind, time, self._next(), fields))
        kept = self._keeping.emitter.post(*payloads)
        if self._recording is None:
            return kept
        self._unshown += facts
        if self._strict or len(self._unshown) >= limits.FACTS_SHOWN:
            self._show()
        elif self._showing is None:
            self._showing = asyncio.get_running_loop().call_later(limits.FACTS_SHOW_S, self._show)
        return asyncio.ensure_future(self._keep_up(kept)) if self._recording.live else kept

    async def end(self, sent: int, received: int, why: str) -> None:
        """The session is over. Raises AccessError when that cannot be kept."""
        if not self._begun:
            return
        self._show()
        if self._flush is not None:
            self._flush.cancel()
        if self._recording is not None:
            recording, self._recording = self._recording, None
            try:
                now = monotonic()
                recording.writer.exec_result(0, "", now)
                await recording.finish(now, self._keeping.now())
            except AccessError as problem:
                self._lost = problem.message
        event = self._end_event(why, sent=sent, received=received, stopped=True)
        await self._keeping.emitter.emit(event)
        self._keeping.unfinished.forget(self.session_id)

    # Events.

    def _next(self) -> int:
        index, self._index = self._index, self._index + 1
        return index

    async def _emit(self, kind: Kind, **fields: FieldValue) -> None:
        await self._keeping.emitter.emit(self._event(kind, self._next(), **fields))

    def _event(self, kind: Kind, index: int, **fields: FieldValue) -> Event:
        keeping = self._keeping
        everything: dict[str, FieldValue] = {**(self._fixed or self._parties()), **fields}
        return new_event(kind, cluster_name=keeping.cluster_name, now=keeping.now(), ei=index, **everything)

    def _parties(self) -> dict[str, FieldValue]:
        identity, spec, granted = self._identity, self._database.spec, self._granted
        route = identity.route_to_database
        return {
            "sid": self.session_id,
            "user": identity.name,
            "user_kind": "bot" if identity.bot_name else "human",
            "user_cluster_name": identity.cluster,
            "user_roles": list(identity.roles),
            "impersonator": identity.impersonator or None,
            "bot_name": identity.bot_name or None,
            "bot_instance_id": identity.bot_instance_id or None,
            "access_requests": list(identity.active_requests) or None,
            "with_mfa": identity.mfa_device or None,
            "namespace": "default",
            "server_id": self._keeping.host_id,
            "server_hostname": self._keeping.hostname,
            "addr.remote": self._client_addr,
            "db_service": self._database.name,
            "db_protocol": spec.protocol,
            "db_uri": spec.uri,
            "db_type": "self-hosted",
            "db_labels": dict(labels_of(self._database)),
            "db_user": granted.user if granted else self._asked.user or (route.user if route else ""),
            "db_name": granted.database
            if granted
            else self._asked.database or (route.database if route else ""),
            "db_roles": list(granted.roles) if granted and granted.roles else None,
        }

    def _end_event(self, why: str, *, sent: int = 0, received: int = 0, stopped: bool = False) -> Event:
        event = self._event(
            codes.DB_SESSION_END,
            LAST_INDEX,
            session_start=rfc3339(self._started),
            session_stop=rfc3339(self._keeping.now()) if stopped else None,
            participants=[self._identity.name],
            rx=sent,
            tx=received,
            reason=why or None,
            error=self._lost or None,
        )
        # Always the same, whoever comes to say it.
        return msgspec.structs.replace(event, uid=self._end_uid)

    # The recording.

    def _open_recording(self) -> None:
        assert self._granted is not None
        meta = SessionMeta(
            session_id=self.session_id,
            cluster_name=self._keeping.cluster_name,
            user=self._identity.name,
            login=self._granted.user,
            host_id=self._keeping.host_id,
            hostname=self._database.name,
            started=self._started,
            command=self._granted.database,
            interactive=False,
            kind="db",
            participants=[self._identity.name],
        )
        try:
            self._recording = self._keeping.recorder.open(meta)
        except AccessError as problem:
            if self._strict:
                raise UnavailableError(
                    "this session must be recorded and cannot be", detail=problem.message
                ) from None
            self._recording_lost(problem)

    def _show(self) -> None:
        """Lines of the recording; after a failed write it is lost, and said to be."""
        if self._showing is not None:
            self._showing.cancel()
            self._showing = None
        facts, self._unshown = self._unshown, []
        if self._recording is None or not facts:
            return
        now = monotonic()
        try:
            self._recording.writer.output("".join(map(shown, facts)).encode("utf-8", "replace"), now)
            self._recording.writer.flush(now)
        except AccessError as problem:
            self._recording_lost(problem)
            return
        if self._recording.writer.is_full:
            self._give_up("the recording of this session has reached its limit")
        if self._flush is None and self._recording.writer.due_at is not None:
            delay_s = max(0.0, self._recording.writer.due_at - now)
            self._flush = asyncio.get_running_loop().call_later(delay_s, self._flush_late)

    def _flush_late(self) -> None:
        self._flush = None
        if self._recording is not None:
            try:
                self._recording.writer.flush(monotonic(), force=True)
            except AccessError as problem:
                self._recording_lost(problem)

    async def _keep_up(self, kept: asyncio.Future[None]) -> None:
        if self._recording is not None:
            try:
                await self._recording.keep_up()
            except AccessError as problem:
                self._recording_lost(problem)
        await asyncio.shield(kept)

    def _recording_lost(self, problem: AccessError) -> None:
        self._keeping.log.error(
            "a session is no longer recorded: %s", problem.message, extra={"sid": self.session_id}
        )
        self._lost = problem.message
        if self._recording is not None:
            self._recording.abandon()
            self._recording = None
        if self._strict:
            self._give_up("this session must be recorded and cannot be any more")
