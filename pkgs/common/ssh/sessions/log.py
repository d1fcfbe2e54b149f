"""One session's record: its audit events in order, and its recording.

    begin (session.start is durable) -> output, resizes, file operations -> end (data, leave, end events)

A recording that can't be written ends the session where the roles say strict, else the session goes on and
its end says so.
"""

from __future__ import annotations

import asyncio
import logging
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass

import msgspec

from pkgs.common.errors import AccessError, UnavailableError
from pkgs.common.events import codes
from pkgs.common.events.codes import Kind
from pkgs.common.events.format import new_event, rfc3339
from pkgs.common.events.types import Emitter, Event, FieldValue
from pkgs.common.pki.identity import Identity
from pkgs.common.recording.model import SessionMeta
from pkgs.common.resources.kinds import Node
from pkgs.common.sessions.recordings import Recorder, Recording
from pkgs.common.sessions.unfinished import Unfinished
from pkgs.common.ssh.sessions.messages import OpenSession, SessionEnded

_DATA_INDEX = 2147483646
_LAST_INDEX = 2147483647


@dataclass(frozen=True, slots=True)
class Parties:
    """Who and where: the fields that every event of a connection carries."""

    identity: Identity
    login: str
    client_addr: str
    node: Callable[[], Node]
    cluster_name: str
    relayed_to: str = ""
    """Host id of the agent that a proxy passes the connection on to."""

    def fields(self) -> dict[str, FieldValue]:
        node = self.node()
        fields: dict[str, FieldValue] = {
            "user": self.identity.name,
            "login": self.login,
            "user_kind": "bot" if self.identity.bot_name else "human",
            "user_cluster_name": self.identity.cluster,
            "user_roles": list(self.identity.roles),
            "namespace": "default",
            "server_id": node.name,
            "server_hostname": node.spec.hostname,
            "server_labels": dict(node.metadata.labels),
            "server_version": node.spec.version,
            "addr.remote": self.client_addr,
            "proto": "ssh",
        }
        if node.spec.addr:
            fields["server_addr"] = node.spec.addr
        if self.relayed_to:
            fields[codes.RELAYED_TO] = self.relayed_to
        if self.identity.impersonator:
            fields["impersonator"] = self.identity.impersonator
        if self.identity.bot_name:
            fields |= {"bot_name": self.identity.bot_name, "bot_instance_id": self.identity.bot_instance_id}
        if self.identity.active_requests:
            fields["access_requests"] = list(self.identity.active_requests)
        return fields


class SessionLog:
    """Keeps the record of one session."""

    def __init__(
        self,
        parties: Parties,
        request: OpenSession,
        command: str,
        emitter: Emitter,
        recorder: Recorder,
        unfinished: Unfinished,
        *,
        strict: bool,
        give_up: Callable[[str], None],
        now: Callable[[], float],
        log: logging.Logger,
        recorded_as: str = "",
    ) -> None:
        """With `recorded_as`, the id of a session whose record somebody else keeps: only what they cannot see
        is told here, by `emit`."""
        self.session_id = recorded_as or str(uuid.uuid4())
        self._elsewhere = bool(recorded_as)
        self.channel = request.channel
        self._parties = parties
        self._request = request
        self._command = command
        self._emitter = emitter
        self._recorder = recorder
        self._unfinished = unfinished
        self._end_uid = str(uuid.uuid4())
        self._strict = strict
        self._give_up = give_up
        self._now = now
        self._log = log
        self._recording: Recording | None = None
        self._participants = [parties.identity.name]
        self._kept = False
        self._started = now()
        self._index = 0
        self._flush: asyncio.TimerHandle | None = None
        self._failed = ""
        self._ending = False
        self._ended = False

    @property
    def is_kept_elsewhere(self) -> bool:
        return self._elsewhere

    @property
    def is_recorded(self) -> bool:
        return self._recording is not None

    async def begin(self) -> None:
        """Make the start durable and open the recording. Raises UnavailableError: then no session."""
        if self._elsewhere:
            return
        request = self._request
        mode = self._recorder.mode
        if mode != "off" and request.kind != "subsystem":
            await self._open_recording(request)
            if self._recording is None:
                mode = "off"
        self._unfinished.keep(self.session_id, self._end_event())
        self._kept = True
        try:
            await self.emit(
                codes.SESSION_START,
                size=f"{request.columns}:{request.rows}" if request.pty else None,
                initial_command=[self._command] if self._command else None,
                session_recording=mode,
            )
        except AccessError:
            await self._abandon()
            raise

    async def emit(self, kind: Kind, index: int | None = None, **fields: FieldValue) -> None:
        """One event of this session, with everything that all of them carry."""
        if index is None:
            index, self._index = self._index, self._index + 1
        await self._emitter.emit(self._event(kind, index, **fields))

    def _event(self, kind: Kind, index: int, **fields: FieldValue) -> Event:
        everything: dict[str, FieldValue] = {
            **self._parties.fields(),
            "sid": self.session_id,
            "with_mfa": self._parties.identity.mfa_device or None,
            **fields,
        }
        return new_event(
            kind, cluster_name=self._parties.cluster_name, now=self._now(), ei=index, **everything
        )

    def _end_event(self) -> Event:
        event = self._event(
            codes.SESSION_END,
            _LAST_INDEX,
            participants=list(self._participants),
            interactive=self._request.pty,
            enhanced_recording=False,
            session_start=rfc3339(self._started),
            session_stop=rfc3339(self._now()) if self._ended else None,
            session_recording="off" if self._recording is None else self._recorder.mode,
            initial_command=[self._command] if self._command else None,
            error=self._failed or None,
        )
        # Always the same, whoever comes to say it.
        return msgspec.structs.replace(event, uid=self._end_uid)

    async def output(self, data: bytes) -> None:
        if self._recording is not None:
            await self._record(lambda recording, now: recording.writer.output(data, now))

    async def mark(self, kind: str, text: str) -> None:
        """Something worth knowing happens at this moment of the recording."""
        if self._recording is not None:
            await self._record(lambda recording, now: recording.writer.mark(kind, text, now))

    def took_part(self, name: str) -> None:
        """Somebody else is in the session: its end names them, and they may play it."""
        if name not in self._participants:
            self._participants.append(name)
            if self._kept:
                self._unfinished.keep(self.session_id, self._end_event())

    async def cut(self) -> None:
        """Output goes on, but is not recorded any more."""
        if self._recording is not None:
            await self._record(
                lambda recording, now: recording.writer.mark(
                    "truncated", "further output is not recorded", now
                )
            )

    async def resize(self, columns: int, rows: int) -> None:
        if self._recording is not None:
            await self._record(lambda recording, now: recording.writer.resize(columns, rows, now))
        if not self._elsewhere:
            await self.emit(codes.SESSION_RESIZE, size=f"{columns}:{rows}")

    async def end(self, result: SessionEnded) -> None:
        """The session is over: close the recording, then say so."""
        self._ended = True
        if self._elsewhere:
            return
        if self._flush is not None:
            self._flush.cancel()
        if self._recording is not None:
            recording = self._recording
            await self._record(
                lambda recording, now: recording.writer.exec_result(result.status, result.signal, now)
            )
            try:
                await recording.finish(time.monotonic(), self._now())
            except AccessError as problem:
                self._lost(problem)
        if self._request.kind == "exec":
            await self._emit_exec(result)
        await self.emit(codes.SESSION_DATA, _DATA_INDEX, rx=result.received, tx=result.sent)
        await self.emit(codes.SESSION_LEAVE, _LAST_INDEX)
        await self._emitter.emit(self._end_event())
        self._unfinished.forget(self.session_id)

    async def _emit_exec(self, result: SessionEnded) -> None:
        ok = result.status == 0 and not result.signal
        error = result.error or (f"signal {result.signal}" if result.signal else "")
        if not ok and not error:
            error = f"exit status {result.status}"
        status = str(result.status)
        await self.emit(
            codes.EXEC if ok else codes.EXEC_FAIL,
            command=self._command,
            exitCode=status,
            exitError=error or None,
            interactive=self._request.pty,
        )
        copy = scp_direction(self._command)
        if copy is not None:
            direction, path = copy
            good, bad = {
                "upload": (codes.SCP_UPLOAD, codes.SCP_UPLOAD_FAIL),
                "download": (codes.SCP_DOWNLOAD, codes.SCP_DOWNLOAD_FAIL),
            }[direction]
            await self.emit(
                good if ok else bad,
                action=direction,
                path=path,
                command=self._command,
                exitCode=status,
                exitError=error or None,
            )

    async def _open_recording(self, request: OpenSession) -> None:
        node = self._parties.node()
        meta = SessionMeta(
            session_id=self.session_id,
            cluster_name=self._parties.cluster_name,
            user=self._parties.identity.name,
            login=self._parties.login,
            host_id=node.name,
            hostname=node.spec.hostname,
            started=self._started,
            cols=request.columns or 80,
            rows=request.rows or 25,
            term=request.term,
            command=self._command,
            interactive=request.pty,
            participants=list(self._participants),
        )
        try:
            self._recording = self._recorder.open(meta)
        except AccessError as problem:
            if self._strict:
                raise UnavailableError(
                    "this session must be recorded and cannot be", detail=problem.message
                ) from None
            self._lost(problem)

    async def _record(self, write: Callable[[Recording, float], None]) -> None:
        assert self._recording is not None
        now = time.monotonic()
        try:
            write(self._recording, now)
            self._recording.writer.flush(now)
            await self._recording.keep_up()
        except AccessError as problem:
            self._lost(problem)
        if self._recording is None:
            return
        if self._recording.writer.is_full and not self._ending:
            # In every mode: who can fill a recording could otherwise go on unseen.
            self._ending = True
            self._give_up("the recording of this session has reached its limit")
        if self._flush is None and self._recording.writer.due_at is not None:
            delay = max(0.0, self._recording.writer.due_at - now)
            self._flush = asyncio.get_running_loop().call_later(delay, self._flush_late)

    def _flush_late(self) -> None:
        self._flush = None
        if self._recording is not None:
            try:
                self._recording.writer.flush(time.monotonic(), force=True)
            except AccessError as problem:
                self._lost(problem)

    def _lost(self, problem: AccessError) -> None:
        self._log.error(
            "a session is no longer recorded: %s", problem.message, extra={"sid": self.session_id}
        )
        self._failed = problem.message
        if self._recording is not None:
            self._recording.abandon()
            self._recording = None
        if self._strict:
            self._give_up("this session must be recorded and cannot be any more")

    async def _abandon(self) -> None:
        self._unfinished.forget(self.session_id)
        if self._recording is not None:
            self._recording.abandon(discard=True)
            self._recording = None


def scp_direction(command: str) -> tuple[str, str] | None:
    """What a legacy scp command does: direction and path; None for any other command."""
    words = command.split()
    if len(words) < 2 or words[0].rsplit("/", 1)[-1] != "scp":
        return None
    flags = [word for word in words[1:] if word.startswith("-") and word != "--"]
    letters = "".join(flag[1:] for flag in flags if not flag.startswith("--"))
    path = words[-1] if words[-1] not in flags else ""
    if "t" in letters:
        return "upload", path
    if "f" in letters:
        return "download", path
    return None
