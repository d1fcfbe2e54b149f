"""The proxy's side of one connection that ends here: what its process asks, decided, recorded and audited."""

from __future__ import annotations

import logging
import socket
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass

import msgspec

from pkgs.common.access.options.forwarding import ANYWHERE
from pkgs.common.api.openssh import IssueOpensshUserCert, IssueRelayCert, LoginProof, OpensshLogin
from pkgs.common.errors import AccessError, DeniedError, LimitExceededError, ProtocolError, UnavailableError
from pkgs.common.events import codes
from pkgs.common.events.types import Emitter, FieldValue
from pkgs.common.net.dial import split_host_port
from pkgs.common.output.sanitize import inert
from pkgs.common.pki.identity import Identity
from pkgs.common.resources.kinds import Node
from pkgs.common.resources.kinds.settings import PROXY_MODES
from pkgs.common.rpc.calls import AsyncClient
from pkgs.common.sessions.recordings import Recorder
from pkgs.common.sessions.unfinished import Unfinished
from pkgs.common.ssh.process.messages import Idle, Message, Refused, Start
from pkgs.common.ssh.process.monitor import Answer, Verdict
from pkgs.common.ssh.service.audit import Audit
from pkgs.common.ssh.service.client import Client
from pkgs.common.ssh.service.ending import Ending
from pkgs.common.ssh.service.gate import NO_LONGER, Gate
from pkgs.common.ssh.service.sessions import Sessions
from pkgs.common.ssh.sessions.messages import (
    OpenSession,
    Output,
    OutputCut,
    Resized,
    SessionEnded,
    SessionOpened,
)
from pkgs.proxy.terminate.limits import CERT_CALL_S, MAX_CONNECTIONS_OF_USER
from pkgs.proxy.terminate.messages import (
    ForwardAnswer,
    ForwardEnded,
    GetTarget,
    LoggedIn,
    NoTarget,
    OpenForward,
    Target,
)

NO_PORTS = "port forwarding is not permitted"
NO_SUBSYSTEM = "that subsystem is not served"
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
    host_id: str
    """The proxy's own."""
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
        self.client: Client | None = None
        """Once somebody has logged in."""
        self._shared = shared
        self._gate = gate
        self._client_addr = start.client_addr
        self._source = split_host_port(start.client_addr)[0]
        self._on_closed = on_closed
        self._audit = Audit(gate, shared.emitter, self._recorded_node, start.client_addr, shared.log)
        self._ending = Ending(end, self._audit, shared.log)
        self._sessions = Sessions(gate, shared, self._audit, self._ending)
        self._proof: LoginProof | None = None
        self._signed: tuple[bytes, str, bytes] = (b"", "", b"")
        self._idle_timeout_s = 0.0
        self._forwards: set[int] = set()
        """Channels whose forwarding was allowed."""
        self._last = node
        """The server when it was last seen, for events after it was deleted."""

    # Login.

    def decide(self, user: str, blob: bytes) -> Verdict:
        return self._gate.verdict(user, blob, self._source)

    def witness(self, session_id: bytes, algorithm: str, signature: bytes) -> None:
        self._signed = (session_id, algorithm, signature)

    async def refused(self, user: str, verdict: Verdict) -> None:
        await self._audit.refused(user, verdict)

    async def authenticated(self, user: str, identity: Identity, blob: bytes) -> Message:
        options = self._gate.options(identity, user, self._source)
        if options.max_connections and not self._gate.passes_on:
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
        relayed_to = self._gate.node().name if self._gate.passes_on else ""
        self._audit.logs_in(identity, user, relayed_to)
        self._idle_timeout_s = options.client_idle_timeout_s
        self.client = Client(identity, user, blob, self._source)
        self._shared.log.info(
            "login", extra={"user": identity.name, "login": user, "addr": self._client_addr}
        )
        return LoggedIn(
            permit_pty="permit-pty" in identity.extensions, idle_timeout_s=options.client_idle_timeout_s
        )

    def _recorded_node(self) -> Node:
        """The server as events and recordings name it: whose word they are is told by the proxy's id."""
        with suppress(DeniedError):  # it is gone
            self._last = self._gate.node()
        metadata = msgspec.structs.replace(self._last.metadata, name=self._shared.host_id)
        return msgspec.structs.replace(self._last, metadata=metadata)

    # Everything after it.

    async def handle(self, message: Message, answer: Answer) -> None:
        client = self.client
        assert client is not None
        match message:
            case GetTarget():
                await self._get_target(message, answer)
            case NoTarget(reason=reason):
                await self.refused(client.login, Verdict(None, inert(reason), client.identity.name))
            case Idle():
                self.end(f"the client was idle for {self._idle_timeout_s:g} seconds")
            case OpenSession():
                await answer(await self._open_session(client, message))
            case Output() | OutputCut() | Resized():
                await self._sessions.record(message)
            case SessionEnded():
                await self._sessions.end(message)
            case OpenForward():
                await answer(await self._open_forward(client, message))
            case ForwardEnded():
                await self._forward_ended(message)
            case _:
                raise ProtocolError("message is not one of a connection's process")

    async def closed(self) -> None:
        await self._sessions.close(self._ending.gone())
        await self._ending.told()
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
                    has_agent=self._gate.passes_on,
                ),
                fds=(sock.fileno(),),
            )

    async def _certificate(self, node: Node, proof: LoginProof, public_key: str) -> OpensshLogin:
        kind = IssueRelayCert if self._gate.passes_on else IssueOpensshUserCert
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
        described = node.spec.hostname in names and not self._gate.passes_on
        return spec.proxy_checks_host_keys or spec.mode not in PROXY_MODES or not described

    # While it lasts.

    def review(self, *, authorities: bool) -> None:
        """End the connection, with all that goes on in it, if it would not be allowed now (attack A14)."""
        client = self.client
        if client is None or self._ending.why:
            return
        decision = self._gate.stays(client, authorities=authorities)
        if not decision:
            self._ending.cut("; ".join(decision.reasons), decision.text or NO_LONGER)
        elif self._forwards and not self._may_forward(client, live=True)[0]:
            self._ending.cut("port forwarding is no longer allowed", NO_LONGER)

    def end(self, text: str) -> None:
        """End the connection; the text is for the user too."""
        self._ending.end(text)

    async def _open_session(self, client: Client, request: OpenSession) -> SessionOpened | Refused:
        session = await self._sessions.admit(client, request)
        if isinstance(session, Refused):
            return session
        known = self._gate.passes_on or request.command == _SFTP
        if request.kind == "subsystem" and not known and not session.forced:
            await self._audit.rejected(request, NO_SUBSYSTEM)  # attack A21
            return Refused(text=NO_SUBSYSTEM)
        begun = await self._sessions.begin(session)
        if isinstance(begun, Refused) or not self._forces_itself(client):
            return begun
        # Passed on as it was asked for: the server has that in SSH_ORIGINAL_COMMAND.
        return msgspec.structs.replace(begun, forced_command="")

    def _forces_itself(self, client: Client) -> bool:
        """Whether the server runs the one command that may run by itself: an agent decides by the same roles,
        and OpenSSH does what the certificate says."""
        return self._gate.passes_on or bool(client.identity.force_command)

    async def _open_forward(self, client: Client, request: OpenForward) -> ForwardAnswer:
        permitted, why, text = self._may_forward(client)
        if permitted:
            self._forwards.add(request.channel)
            return ForwardAnswer()
        await self._tell_forward(
            ForwardEnded(
                channel=request.channel, host=request.host, port=request.port, what="failed", error=why
            )
        )
        return ForwardAnswer(refusal=text)

    def _may_forward(self, client: Client, *, live: bool = False) -> tuple[bool, str, str]:
        """Whether; why not, for the audit; and what the user is told. A server's own sshd looks names up,
        so where a role lists or denies destinations, none can be checked: then no. An agent checks them."""
        rights = self._gate.forwarding(client.identity, client.login, client.source, live=live)
        checked = rights.to == ANYWHERE or self._gate.passes_on
        return rights.local and checked, rights.why or NO_PORTS, rights.text or NO_PORTS

    async def _forward_ended(self, message: ForwardEnded) -> None:
        if message.what != "started":
            self._forwards.discard(message.channel)
        if not self._gate.passes_on:  # which knows the address, and tells of it
            await self._tell_forward(message)

    async def _tell_forward(self, message: ForwardEnded) -> None:
        kind = {"started": codes.PORT_START, "stopped": codes.PORT_STOP, "failed": codes.PORT_FAIL}
        fields: dict[str, FieldValue] = {
            "addr": f"{message.host}:{message.port}",
            "success": message.what != "failed",
            "error": message.error or None,
        }
        await self._audit.emit(kind[message.what], fields)
