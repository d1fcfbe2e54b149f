"""The proxy's side of one connection that ends here: what its process asks, decided, recorded and audited."""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

import msgspec

from pkgs.common.api.openssh import IssueOpensshUserCert, IssueRelayCert, LoginProof, OpensshLogin
from pkgs.common.errors import (
    AccessError,
    DeniedError,
    InputError,
    LimitExceededError,
    ProtocolError,
    UnavailableError,
)
from pkgs.common.events import codes
from pkgs.common.events.format import new_event
from pkgs.common.events.types import Emitter, FieldValue
from pkgs.common.net.dial import split_host_port
from pkgs.common.output.sanitize import inert
from pkgs.common.pki.identity import Identity
from pkgs.common.resources.kinds import Node
from pkgs.common.resources.kinds.settings import PROXY_MODES
from pkgs.common.rpc.calls import AsyncClient
from pkgs.common.ssh.process.messages import Message, Refused, Start
from pkgs.common.ssh.process.monitor import Answer, Verdict
from pkgs.common.ssh.sessions.copies import is_copy
from pkgs.common.ssh.sessions.log import Parties, SessionLog
from pkgs.common.ssh.sessions.messages import (
    OpenSession,
    Output,
    OutputCut,
    Resized,
    SessionEnded,
    SessionOpened,
)
from pkgs.common.ssh.sessions.recordings import Recorder
from pkgs.common.ssh.sessions.unfinished import Unfinished
from pkgs.proxy.terminate.gate import Gate
from pkgs.proxy.terminate.limits import CERT_CALL_S, MAX_CONNECTIONS_OF_USER, MAX_SESSIONS, RECORD_HEAD
from pkgs.proxy.terminate.messages import (
    ForwardAnswer,
    ForwardEnded,
    GetTarget,
    LoggedIn,
    NoTarget,
    OpenForward,
    Target,
)

NO_LONGER = "access is no longer allowed"
_SFTP = "sftp"


@dataclass(frozen=True, slots=True)
class Shared:
    """What all connections have in common."""

    client: AsyncClient
    emitter: Emitter
    recorder: Recorder
    unfinished: Unfinished
    reach: Callable[[Node, str], Awaitable[socket.socket]]
    log: logging.Logger
    counts: Callable[[str], int]
    """Connections of a user now."""


class Terminated:
    """One connection, from its first certificate to its end."""

    def __init__(
        self,
        shared: Shared,
        gate: Gate,
        node: Node,
        start: Start,
        end: Callable[[str], None],
        on_closed: Callable[[Terminated], None],
    ) -> None:
        self.identity: Identity | None = None
        self._login = ""
        self._shared = shared
        self._gate = gate
        self._client_addr = start.client_addr
        self._source = split_host_port(start.client_addr)[0]
        self._end = end
        self._on_closed = on_closed
        self._proof: LoginProof | None = None
        self._signed: tuple[bytes, str, bytes] = (b"", "", b"")
        self._sessions: dict[int, SessionLog] = {}
        self._forwards: set[int] = set()
        """Channels whose forwarding was allowed."""
        self._parties: Parties | None = None
        self._blob = b""
        self._why_over = ""
        self._writes: set[asyncio.Task[None]] = set()
        self._last = node
        """The server when it was last seen, for events after it was deleted."""

    # Login.

    def decide(self, user: str, blob: bytes) -> Verdict:
        return self._gate.verdict(user, blob, self._source)

    def witness(self, session_id: bytes, algorithm: str, signature: bytes) -> None:
        self._signed = (session_id, algorithm, signature)

    async def refused(self, user: str, verdict: Verdict) -> None:
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
                "server_id": self._gate.host_id,
                "server_hostname": self._hostname(),
                "addr.remote": self._client_addr,
                "proto": "ssh",
            },
        )

    async def authenticated(self, user: str, identity: Identity, blob: bytes) -> Message:
        options = self._gate.options(identity, user, self._source)
        if options.max_connections and not self._gate.has_agent:
            # A place would have to be taken as an agent takes it; without one there could be more.
            raise DeniedError(
                "your roles limit your connections, which cannot be counted on a server without an agent"
            )
        if self._shared.counts(identity.name) >= MAX_CONNECTIONS_OF_USER:
            raise LimitExceededError("you have too many connections to this proxy")
        session_id, algorithm, signature = self._signed
        self._proof = LoginProof(
            session_id=session_id, login=user, algorithm=algorithm, certificate=blob, signature=signature
        )
        self._parties = Parties(
            identity,
            user,
            self._client_addr,
            self._recorded_node,
            self._gate.cache.cluster_name,
            relayed_to=self._gate.node_id if self._gate.has_agent else "",
        )
        self.identity, self._login, self._blob = identity, user, blob
        self._shared.log.info(
            "login", extra={"user": identity.name, "login": user, "addr": self._client_addr}
        )
        return LoggedIn(
            permit_pty="permit-pty" in identity.extensions, idle_timeout_s=options.client_idle_timeout_s
        )

    def _recorded_node(self) -> Node:
        """The server as events and recordings name it: whose word they are is told by the proxy's id."""
        node = self._gate.cache.nodes.get(self._gate.node_id) or self._last
        self._last = node
        metadata = msgspec.structs.replace(node.metadata, name=self._gate.host_id)
        return msgspec.structs.replace(node, metadata=metadata)

    def _hostname(self) -> str:
        return self._recorded_node().spec.hostname

    # Everything after it.

    async def handle(self, message: Message, answer: Answer) -> None:
        match message:
            case GetTarget():
                await self._get_target(message, answer)
            case NoTarget(reason=reason):
                assert self.identity is not None
                await self.refused(self._login, Verdict(None, inert(reason), self.identity.name))
            case OpenSession():
                await answer(await self._open_session(message))
            case Output(channel=channel, data=data):
                await self._session(channel).output(data)
            case OutputCut(channel=channel):
                await self._session(channel).cut()
            case Resized(channel=channel, columns=columns, rows=rows):
                await self._session(channel).resize(columns, rows)
            case SessionEnded():
                session = self._session(message.channel)
                del self._sessions[message.channel]
                await session.end(message)
            case OpenForward():
                await answer(await self._open_forward(message))
            case ForwardEnded():
                await self._forward_ended(message)
            case _:
                raise ProtocolError("message is not one of a connection's process")

    async def closed(self) -> None:
        why = self._why_over or "the connection was lost"
        self._why_over = why
        for session in list(self._sessions.values()):
            try:
                await session.end(SessionEnded(channel=session.channel, status=255, error=why))
            except AccessError as problem:
                self._shared.log.error("the end of a session is not audited: %s", problem)
        self._sessions.clear()
        if self._writes:
            await asyncio.wait(self._writes)
        self._on_closed(self)

    async def _get_target(self, message: GetTarget, answer: Answer) -> None:
        """A certificate and a connection, once: the proof of a login counts once (attack A40)."""
        proof, self._proof = self._proof, None
        if proof is None:
            raise ProtocolError("a connection has one server")
        try:
            node = self._gate.node()
            issued = await self._certificate(node, proof, message.public_key)
            sock = await self._shared.reach(node, self._client_addr)
        except AccessError as problem:
            self._shared.log.warning("a server is not reached: %s", problem, extra={"detail": problem.detail})
            await answer(Target(refusal=inert(problem.message)))
            return
        with sock:
            await answer(
                Target(
                    certificate=issued.ssh_cert,
                    host_authorities=self._gate.cache.trust.ssh_ca_lines("host"),
                    cluster=self._gate.cache.cluster_name,
                    names=issued.server_names,
                    checks_host_key=self._checks_host_key(node, issued.server_names),
                    has_agent=self._gate.has_agent,
                ),
                fds=(sock.fileno(),),
            )

    async def _certificate(self, node: Node, proof: LoginProof, public_key: str) -> OpensshLogin:
        kind = IssueRelayCert if self._gate.has_agent else IssueOpensshUserCert
        request = kind(node=node.name, proof=proof, client_addr=self._client_addr, ssh_public_key=public_key)
        try:
            return await self._shared.client.call(request, deadline_s=CERT_CALL_S)
        except UnavailableError as problem:
            # Where the Auth Service is, is nothing for users.
            raise UnavailableError(
                "the Auth Service cannot be asked now; try again later", detail=problem.message
            ) from problem

    def _checks_host_key(self, node: Node, names: list[str]) -> bool:
        """Where proxies record, a cluster may take a server's word for who it is: one that an administrator
        has described. Agents, and servers that have joined, always prove themselves."""
        spec = self._gate.cache.recording_config.spec
        described = node.spec.hostname in names and not self._gate.has_agent
        return spec.proxy_checks_host_keys or spec.mode not in PROXY_MODES or not described

    # While it lasts.

    def review(self, *, authorities: bool) -> None:
        """End the connection, with all that goes on in it, if it would not be allowed now (attack A14)."""
        identity = self.identity
        if identity is None or self._why_over:
            return
        decision = self._gate.decide(identity, self._login, self._source, live=True)
        if not decision:
            self._disconnect("; ".join(decision.reasons), decision.text or NO_LONGER)
        elif authorities and not self._gate.still_trusts(self._blob, identity, self._login, self._source):
            self._disconnect("the certificate's authority is no longer trusted", NO_LONGER)
        elif self._forwards and not self._gate.may_forward(identity, self._login, self._source, live=True):
            self._disconnect("port forwarding is no longer allowed", NO_LONGER)
        elif self._gate.now() >= (
            identity.previous_expires_at or identity.expires_at
        ) and self._gate.ends_expired(identity):
            self.end("the certificate has expired")

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
        self._writes.add(task)
        task.add_done_callback(self._writes.discard)

    async def _open_session(self, request: OpenSession) -> SessionOpened | Refused:
        assert self.identity is not None and self._parties is not None
        decision = self._gate.decide(self.identity, self._login, self._source)
        if not decision or self._why_over:
            await self._reject(request, "; ".join(decision.reasons))
            return Refused(text=decision.text or "access denied")
        options = self._gate.options(self.identity, self._login, self._source)
        most = min(options.max_sessions or MAX_SESSIONS, MAX_SESSIONS)
        if len(self._sessions) >= most:
            await self._reject(request, "too many sessions", most)
            return Refused(text=f"too many sessions: the limit is {most}")
        if request.channel in self._sessions:
            raise ProtocolError("a channel has one session")
        forced, why = self._confined(request)
        known = self._gate.has_agent or request.command == _SFTP
        if not why and request.kind == "subsystem" and not known and not forced:
            why = "that subsystem is not served"  # attack A21
        if why:
            await self._reject(request, why)
            return Refused(text=inert(why))
        if not options.file_copy and not forced and is_copy(request):
            await self._emit(codes.SCP_DISALLOWED, {**self._parties.fields(), "command": request.command})
            return Refused(text="file copying is not permitted")
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

    def _confined(self, request: OpenSession) -> tuple[str, str]:
        """The command that runs whatever was asked for, if there is one; and why nothing may run."""
        assert self.identity is not None
        try:
            confined = self._gate.confinement(self.identity, self._login, self._source)
            forced = confined.forced_command(self.identity.force_command)
        except (DeniedError, InputError) as problem:
            return "", str(problem)
        return (
            (forced, "")
            if forced
            else ("", confined.refusal(request.kind, request.command, exact=request.exact))
        )

    async def _open_forward(self, request: OpenForward) -> ForwardAnswer:
        assert self.identity is not None
        decision = self._gate.decide(self.identity, self._login, self._source)
        if decision and self._gate.may_forward(self.identity, self._login, self._source):
            self._forwards.add(request.channel)
            return ForwardAnswer()
        text = decision.text or "port forwarding is not permitted"
        why = text if decision else "; ".join(decision.reasons)
        await self._tell_forward(
            ForwardEnded(
                channel=request.channel, host=request.host, port=request.port, what="failed", error=why
            )
        )
        return ForwardAnswer(refusal=text)

    async def _forward_ended(self, message: ForwardEnded) -> None:
        if message.what != "started":
            self._forwards.discard(message.channel)
        if not self._gate.has_agent:  # which knows the address, and tells of it
            await self._tell_forward(message)

    async def _tell_forward(self, message: ForwardEnded) -> None:
        assert self._parties is not None
        kind = {"started": codes.PORT_START, "stopped": codes.PORT_STOP, "failed": codes.PORT_FAIL}
        fields: dict[str, FieldValue] = {
            **self._parties.fields(),
            "addr": f"{message.host}:{message.port}",
            "success": message.what != "failed",
            "error": message.error or None,
        }
        await self._emit(kind[message.what], fields)

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
