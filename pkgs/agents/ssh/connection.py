"""The service's view of one SSH connection: what its process asks, decided, recorded and audited.

One instance per connection; `common/ssh/process/monitor` calls it in order, one message at a time.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from dataclasses import dataclass

from pkgs.agents.ssh.gate import Gate
from pkgs.agents.ssh.limits import MAX_SESSIONS_PER_CONNECTION, RECORD_HEAD
from pkgs.agents.ssh.listeners import Listeners
from pkgs.agents.ssh.messages import (
    Account,
    AgentAnswer,
    ForwardAnswer,
    ForwardEnded,
    ListenerAnswer,
    ListenerClosed,
    NoAccount,
    OpenAgent,
    OpenForward,
    OpenListener,
)
from pkgs.common.errors import AccessError, ProtocolError
from pkgs.common.events import codes
from pkgs.common.events.format import new_event
from pkgs.common.events.types import Emitter, FieldValue
from pkgs.common.pki.identity import Identity
from pkgs.common.ssh.process.messages import Message, Refused, Start
from pkgs.common.ssh.process.monitor import Answer, Verdict
from pkgs.common.ssh.sessions.log import Parties, SessionLog, scp_direction
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
        self._source = start.client_addr.rpartition(":")[0].strip("[]")
        self._end = end
        self._on_closed = on_closed
        self._sessions: dict[int, SessionLog] = {}
        self._listeners = Listeners(self._audit_port)
        self._forwards: set[int] = set()
        """Channels of local forwardings that were allowed and have not ended."""
        self._has_agent = False
        self._parties: Parties | None = None
        self._blob = b""
        self._why_over = ""

    # Login.

    def decide(self, user: str, blob: bytes) -> Verdict:
        return self._gate.verdict(user, blob, self._source)

    async def refused(self, user: str, verdict: Verdict) -> None:
        node = self._gate.node()
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
        self.identity, self.login, self._blob = identity, user, blob
        cluster = self._gate.cache.cluster_name
        self._parties = Parties(identity, user, self._client_addr, self._gate.node, cluster)
        self._shared.log.info(
            "login", extra={"user": identity.name, "login": user, "addr": self._client_addr}
        )
        return Account(
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
        )

    # Everything after it.

    async def handle(self, message: Message, answer: Answer) -> None:
        match message:
            case OpenSession():
                await answer(await self._open_session(message))
            case Output(channel=channel, data=data):
                await self._session(channel).output(data)
            case OutputCut(channel=channel):
                await self._session(channel).cut()
            case Resized(channel=channel, columns=columns, rows=rows):
                await self._session(channel).resize(columns, rows)
            case FileOperation():
                await self._file_operation(message)
            case FileSummary():
                stats = f"{message.path}: {message.read} read, {message.written} written"
                await self._session(message.channel).emit(codes.SFTP_SUMMARY, file_transfer_stats=[stats])
            case SessionEnded():
                session = self._session(message.channel)
                del self._sessions[message.channel]
                await session.end(message)
            case OpenForward():
                await answer(await self._open_forward(message))
            case ForwardEnded():
                await self._forward_ended(message)
            case OpenListener():
                await answer(await self._open_listener(message))
            case OpenAgent():
                await answer(await self._open_agent())
            case ListenerClosed(host=host, port=port, error=error):
                await self._listeners.closed(host, port, error)
            case NoAccount(reason=reason):
                assert self.identity is not None
                await self.refused(self.login, Verdict(None, reason, self.identity.name))
            case _:
                raise ProtocolError("message is not one of a connection's process")

    async def closed(self) -> None:
        why = self._why_over or "the connection was lost"
        self._why_over = why
        for session in list(self._sessions.values()):
            ended = SessionEnded(channel=session.channel, status=255, error=why)
            try:
                await session.end(ended)
            except AccessError as problem:
                self._shared.log.error("the end of a session is not audited: %s", problem)
            except Exception:
                # The others' ends are still to be said.
                self._shared.log.exception("the end of a session is not audited")
        self._sessions.clear()
        try:
            await self._listeners.close()
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
        decision = self._gate.decide(identity, self.login, self._source, live=True)
        if not decision:
            self._disconnect("; ".join(decision.reasons), decision.text or NO_LONGER)
        elif authorities and not self._gate.still_trusts(self._blob, identity, self.login, self._source):
            self._disconnect("the certificate's authority is no longer trusted", NO_LONGER)
        elif self._gate.now() >= _ends(identity) and self._gate.ends_expired(identity):
            self.end("the certificate has expired")
        elif self._forwards_too_much(identity):
            self.end("forwarding is no longer permitted")

    def end(self, text: str) -> None:
        """End the connection; the text is for the user too."""
        if not self._why_over:
            self._disconnect(text, text)

    def _disconnect(self, reason: str, text: str) -> None:
        if self._parties is None:
            return
        self._why_over = reason
        self._end(text)
        fields = {**self._parties.fields(), "reason": reason}
        task = asyncio.ensure_future(self._emit(codes.CLIENT_DISCONNECT, fields))
        _background.add(task)
        task.add_done_callback(_background.discard)

    async def _open_session(self, request: OpenSession) -> SessionOpened | Refused:
        assert self.identity is not None and self._parties is not None
        decision = self._gate.decide(self.identity, self.login, self._source)
        if not decision:
            await self._reject(request, "; ".join(decision.reasons))
            return Refused(text=decision.text or "access denied")
        options = self._gate.options(self.identity, self.login, self._source)
        if options.max_sessions and len(self._sessions) >= options.max_sessions:
            await self._reject(request, "too many sessions", options.max_sessions)
            return Refused(text=f"too many sessions: the limit is {options.max_sessions}")
        if request.channel in self._sessions:
            raise ProtocolError("a channel has one session")
        if len(self._sessions) >= MAX_SESSIONS_PER_CONNECTION:
            # An honest process counts itself: each session holds a file of this one open.
            raise ProtocolError("more sessions than a connection may have")
        if not self._gate.may_copy(options) and not self.identity.force_command and is_copy(request):
            await self._emit(codes.SCP_DISALLOWED, {**self._parties.fields(), "command": request.command})
            return Refused(text="file copying is not permitted")
        forced = self.identity.force_command
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
        try:
            await session.begin()
            if request.kind == "subsystem":
                await session.emit(codes.SUBSYSTEM, name=request.command)
        except AccessError as problem:
            self._shared.log.error("no session without its record: %s", problem)
            return Refused(text=problem.message)
        self._sessions[request.channel] = session
        return SessionOpened(
            session_id=session.session_id,
            forced_command=forced,
            record=("all" if request.pty else "head") if session.is_recorded else "none",
            record_limit=RECORD_HEAD,
        )

    async def _open_forward(self, request: OpenForward) -> ForwardAnswer:
        assert self.identity is not None
        decision = self._gate.decide(self.identity, self.login, self._source)
        options = self._gate.options(self.identity, self.login, self._source) if decision else None
        if options is None or not self._gate.may_forward(self.identity, options):
            text = decision.text or "port forwarding is not permitted"
            why = text if decision else "; ".join(decision.reasons)
            await self._forward_ended(
                ForwardEnded(
                    channel=request.channel, host=request.host, port=request.port, what="failed", error=why
                )
            )
            return ForwardAnswer(channel=request.channel, refusal=text)
        self._forwards.add(request.channel)
        return ForwardAnswer(channel=request.channel)

    async def _forward_ended(self, message: ForwardEnded) -> None:
        if message.what != "started":
            self._forwards.discard(message.channel)
        kind = {"started": codes.PORT_START, "stopped": codes.PORT_STOP, "failed": codes.PORT_FAIL}
        await self._audit_port(kind[message.what], f"{message.host}:{message.port}", message.error)

    def _forwards_too_much(self, identity: Identity) -> bool:
        """Whether something is forwarded that would be refused now. It ends with the connection: the process
        that forwards is the user's, and need not do what it is told (attack A14)."""
        if not self._forwards and not self._listeners and not self._has_agent:
            return False
        options = self._gate.options(identity, self.login, self._source)
        local, remote = self._gate.may_forward(identity, options), self._gate.may_listen(identity, options)
        agent = self._gate.may_use_agent(identity, options)
        return (
            bool(self._forwards and not local)
            or bool(self._listeners and not remote)
            or (self._has_agent and not agent)
        )

    async def _open_listener(self, request: OpenListener) -> ListenerAnswer:
        if refusal := self._may_not_listen():
            await self._listeners.refused(request.host, request.port, refusal)
            return ListenerAnswer(refusal="port forwarding is not permitted")
        try:
            await self._listeners.opened(request.host, request.port)
        except AccessError as problem:
            self._shared.log.error("no forwarding without its audit: %s", problem)
            return ListenerAnswer(refusal=problem.message)
        return ListenerAnswer()

    async def _open_agent(self) -> AgentAnswer:
        assert self.identity is not None and self._parties is not None
        decision = self._gate.decide(self.identity, self.login, self._source)
        why = "; ".join(decision.reasons)
        if decision:
            options = self._gate.options(self.identity, self.login, self._source)
            allowed = self._gate.may_use_agent(self.identity, options)
            why = "" if allowed else "agent forwarding is not permitted"
        kind = codes.AGENT_FORWARD_FAIL if why else codes.AGENT_FORWARD
        fields = {**self._parties.fields(), "success": not why, "error": why or None}
        try:
            await self._emit(kind, fields)
        except AccessError as problem:
            self._shared.log.error("no agent without its audit: %s", problem)
            return AgentAnswer(refusal=problem.message)
        self._has_agent = self._has_agent or not why
        return AgentAnswer(refusal="agent forwarding is not permitted" if why else "")

    def _may_not_listen(self) -> str:
        """Why remote forwarding is refused now, for the audit; empty when it is not (attack A18)."""
        assert self.identity is not None
        decision = self._gate.decide(self.identity, self.login, self._source)
        if not decision:
            return "; ".join(decision.reasons)
        options = self._gate.options(self.identity, self.login, self._source)
        return "" if self._gate.may_listen(self.identity, options) else "port forwarding is not permitted"

    async def _audit_port(self, kind: codes.Kind, addr: str, error: str) -> None:
        assert self._parties is not None
        fields: dict[str, FieldValue] = {
            **self._parties.fields(),
            "addr": addr,
            "success": kind is not codes.PORT_FAIL,
            "error": error or None,
        }
        await self._emit(kind, fields)

    async def _file_operation(self, message: FileOperation) -> None:
        kind, action = codes.sftp_kind(message.operation, ok=not message.error)
        await self._session(message.channel).emit(
            kind,
            action=action,
            path=message.path,
            target_path=message.target_path or None,
            error=message.error or None,
        )

    async def _reject(self, request: OpenSession, reason: str, most: int | None = None) -> None:
        assert self._parties is not None
        await self._emit(
            codes.SESSION_REJECTED,
            {**self._parties.fields(), "reason": reason, "max": most, "command": request.command or None},
        )

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


def is_copy(request: OpenSession) -> bool:
    """Whether a request is a file transfer: the sftp subsystem, or scp's own protocol."""
    if request.kind == "subsystem":
        return request.command == "sftp"
    return request.kind == "exec" and scp_direction(request.command) is not None


def _ends(identity: Identity) -> float:
    """A certificate for one session lives for a minute: what counts is the one it was made from."""
    return identity.previous_expires_at or identity.expires_at


_background: set[asyncio.Future[None]] = set()
