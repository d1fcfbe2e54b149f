"""The proxy's SSH port: a doorway for stock clients (`ssh -J proxy:3023 user@node`), and nothing more.

The user's certificate is verified as everywhere; every dial goes through the connector, so it is checked,
routed and audited like any other. Each connection has a process of its own that holds no power.
"""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import Callable, Coroutine
from typing import Protocol

from pkgs.common.access.locks import (
    STALE_TEXT,
    Interaction,
    is_stale,
    lock_reason,
    lock_text,
    matching_lock,
)
from pkgs.common.access.options import lock_mode
from pkgs.common.access.types import Decision
from pkgs.common.errors import AccessError, DeniedError, LimitExceededError, ProtocolError
from pkgs.common.events.codes import AUTH_FAIL, CLIENT_DISCONNECT, Kind
from pkgs.common.events.format import new_event
from pkgs.common.events.types import FieldValue
from pkgs.common.membership.member import Member
from pkgs.common.membership.reviews import Reviews
from pkgs.common.net.dial import split_host_port
from pkgs.common.net.relay import relay
from pkgs.common.net.stream import Stream, adopt
from pkgs.common.output.sanitize import inert
from pkgs.common.pki.identity import Identity
from pkgs.common.pki.signer import SshSigner
from pkgs.common.pki.sshcert import line_to_blob, verify_user_cert
from pkgs.common.resources.durations import parse_duration
from pkgs.common.resources.kinds import Node
from pkgs.common.runtime.clock import Clock
from pkgs.common.ssh import wire
from pkgs.common.ssh.owner import HostKey
from pkgs.common.ssh.process.messages import Message, Start
from pkgs.common.ssh.process.monitor import Answer, Verdict
from pkgs.common.ssh.process.pool import Pool
from pkgs.proxy import limits
from pkgs.proxy.connections.passing import UNTRUSTED, Passing, pass_on
from pkgs.proxy.sshgate.messages import Dial, Dialled, GateOpened

MAX_DIALS = 64
"""Streams of one connection, open or being dialled."""
MAX_CONNECTIONS_OF_USER = 128
"""At once, over all their certificates: each connection is a process of the proxy."""


class _Connected(Protocol):
    @property
    def stream(self) -> Stream: ...
    @property
    def node(self) -> Node: ...


class Connector(Protocol):
    """The one way to an agent; see `connector`."""

    async def connect_user(
        self,
        identity: Identity,
        target: str,
        *,
        client_addr: str,
        service: str = "ssh",
        cluster: str = "",
        login: str = "",
    ) -> _Connected: ...

    def still_allows(self, identity: Identity, node: Node, *, client_addr: str, login: str) -> Decision: ...


class SshGate:
    """The gate of one proxy."""

    def __init__(
        self,
        member: Member,
        connector: Connector,
        clock: Clock,
        log: logging.Logger,
        *,
        reviews: Reviews,
        allow_ctr: bool = False,
    ) -> None:
        self.member = member
        self.reviews = reviews
        self.connector = connector
        self.log = log
        self.now = clock.now
        self.connections: set[_GateConnection] = set()
        self._pool = Pool(
            "pkgs.proxy.sshgate.child",
            self._new_connection,
            Dial,
            self._host_keys,
            self._sign,
            log,
            allow_ctr=allow_ctr,
        )
        self._signer: tuple[bytes, SshSigner] | None = None

    async def start(self) -> None:
        """Raises UnavailableError."""
        spec = self.member.cache.networking.spec
        self._pool.keep_alive_s = parse_duration(spec.keep_alive_interval)
        self._pool.keep_alive_count = spec.keep_alive_count_max
        await self._pool.start()

    async def serve(self, sock: socket.socket, remote_addr: str) -> None:
        """Serve an accepted connection until it is over. `remote_addr` is the user's `ip:port`."""
        try:
            task = await self._pool.serve(sock, remote_addr)
        except AccessError as problem:
            self.log.warning("a connection is refused: %s", problem, extra={"addr": remote_addr})
            return
        await asyncio.wait([task])

    async def close(self) -> None:
        await self._pool.close()

    def _new_connection(self, start: Start, end: Callable[[str], None]) -> _GateConnection:
        connection = _GateConnection(self, start, end)
        self.connections.add(connection)
        return connection

    def _keys(self) -> SshSigner:
        pem = self.member.identity.ssh_private_pem
        if self._signer is None or self._signer[0] != pem:
            self._signer = (pem, SshSigner.load(pem))
        return self._signer[1]

    def _host_keys(self) -> list[HostKey]:
        blobs = (line_to_blob(self.member.identity.ssh_cert), self._keys().public_blob)
        return [HostKey(algorithm=wire.Reader(blob).text(), blob=blob) for blob in blobs]

    def _sign(self, algorithm: str, exchange_hash: bytes) -> bytes:
        return self._keys().sign(exchange_hash)


class _GateConnection:
    """The proxy's side of one connection."""

    def __init__(self, gate: SshGate, start: Start, end: Callable[[str], None]) -> None:
        self._gate = gate
        self._client_addr = start.client_addr
        self._source = split_host_port(start.client_addr)[0]
        self._end = end
        self._identity: Identity | None = None
        self._blob = b""
        self._passing = Passing(self._ask, self._cut)
        self._streams: set[asyncio.Task[None]] = set()

    def decide(self, user: str, blob: bytes) -> Verdict:
        """Any SSH user name will do here: the login is the server's to decide."""
        gate = self._gate
        try:
            identity = verify_user_cert(
                blob, trust=gate.member.cache.trust, login=None, source_addr=self._source, now=gate.now()
            )
        except AccessError as problem:
            return Verdict(None, problem.message)
        decision = self._decide(identity)
        if not decision:
            text = inert(decision.text) or "access denied"
            return Verdict(None, "; ".join(decision.reasons), identity.name, text)
        return Verdict(identity)

    async def refused(self, user: str, verdict: Verdict) -> None:
        await self._emit(
            AUTH_FAIL, user=verdict.user or None, login=user, success=False, error=verdict.reason
        )

    async def authenticated(self, user: str, identity: Identity, blob: bytes) -> Message:
        open_now = sum(one.is_of(identity.name) for one in self._gate.connections)
        if open_now >= MAX_CONNECTIONS_OF_USER:
            raise LimitExceededError("you have too many connections to this proxy")
        self._identity, self._blob = identity, blob
        self._gate.reviews.add(self._passing)
        self._gate.log.info("login", extra={"user": identity.name, "addr": self._client_addr})
        return GateOpened(user=identity.name)

    async def handle(self, message: Message, answer: Answer) -> None:
        if not isinstance(message, Dial):
            raise ProtocolError("message is not one of a gate connection's process")
        if len(self._streams) >= MAX_DIALS:
            limit = LimitExceededError("too many jumps in one connection")
            await answer(Dialled(channel=message.channel, refusal=limit.message))
            return
        task = asyncio.create_task(self._dial(message, answer), name="ssh gate stream")
        self._streams.add(task)
        task.add_done_callback(self._streams.discard)

    async def closed(self) -> None:
        self._gate.connections.discard(self)
        self._gate.reviews.discard(self._passing)
        self._passing.close()
        for task in self._streams:
            task.cancel()
        await asyncio.gather(*self._streams, return_exceptions=True)

    def is_of(self, user: str) -> bool:
        """Whether that user has logged in here."""
        return self._identity is not None and self._identity.name == user

    def _ask(self, authorities: bool) -> Decision:
        """Whether the connection may stay (attack A14). Its streams are asked about one by one."""
        assert self._identity is not None
        if authorities and not self._still_trusted(self._identity):
            return UNTRUSTED
        return self._decide(self._identity)

    def _cut(self, reason: str) -> None:
        assert self._identity is not None
        decision = self._decide(self._identity)
        self._end(inert(decision.text) or "access is no longer allowed")
        self._beside(self._emit(CLIENT_DISCONNECT, user=self._identity.name, reason=reason))

    def _beside(self, work: Coroutine[None, None, None]) -> None:
        task = asyncio.create_task(work, name="audit")
        self._streams.add(task)
        task.add_done_callback(self._streams.discard)

    async def _dial(self, message: Dial, answer: Answer) -> None:
        assert self._identity is not None
        try:
            connected = await self._gate.connector.connect_user(
                self._identity, message.target, client_addr=self._client_addr, cluster=message.cluster
            )
        except AccessError as problem:
            await answer(Dialled(channel=message.channel, refusal=str(problem)))
            return
        ours, theirs = socket.socketpair()
        try:
            with theirs:
                await answer(Dialled(channel=message.channel), fds=(theirs.fileno(),))
            ours.setblocking(False)
            plain = await adopt(ours)
        except BaseException:
            ours.close()
            connected.stream.abort()
            raise
        identity, node = self._identity, connected.node

        def ask(_: bool) -> Decision:
            return self._gate.connector.still_allows(identity, node, client_addr=self._client_addr, login="")

        relaying = relay(plain, connected.stream, answer_s=limits.AGENT_ANSWER_S)
        _, cut = await pass_on(relaying, ask, self._gate.reviews)
        if cut:
            await self._emit(CLIENT_DISCONNECT, user=identity.name, reason=cut)

    def _decide(self, identity: Identity) -> Decision:
        """Whether this user may be here at all: the roles still exist, no lock is in force, and where the
        locks must be known for certain, they are. What they may reach is decided for each jump."""
        cache = self._gate.member.cache
        try:
            roles = cache.roles_of(identity)
        except DeniedError as problem:
            return Decision(False, (problem.message, *problem.reasons), text=problem.message)
        if is_stale(cache.stale_for_s) and lock_mode(roles, cache.auth_preference) == "strict":
            return Decision(False, (STALE_TEXT,), text=STALE_TEXT)
        interaction = Interaction(identity, (self._gate.member.identity.host_id,))
        lock = matching_lock(cache.locks, interaction, self._gate.now())
        return Decision(True) if lock is None else Decision(False, (lock_reason(lock),), text=lock_text(lock))

    def _still_trusted(self, identity: Identity) -> bool:
        when = min(self._gate.now(), identity.expires_at - 1.0)
        try:
            verify_user_cert(
                self._blob,
                trust=self._gate.member.cache.trust,
                login=None,
                source_addr=self._source,
                now=when,
            )
        except AccessError:
            return False
        return True

    async def _emit(self, kind: Kind, **fields: FieldValue) -> None:
        member = self._gate.member
        event = new_event(
            kind,
            cluster_name=member.cache.cluster_name,
            now=self._gate.now(),
            ei=0,
            server_id=member.identity.host_id,
            addr_remote=self._client_addr,
            proto="ssh",
            **fields,
        )
        await member.emitter.emit(event)
