"""The proxy's SSH port: a doorway for stock clients (`ssh -J proxy:3023 user@node`), and nothing more.

The user's certificate is verified as everywhere; every dial goes through the connector, so it is checked,
routed and audited like any other. Each connection has a process of its own that holds no power.
"""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import Callable
from typing import Protocol

from pkgs.common.access.locks import matching_lock
from pkgs.common.errors import AccessError, LimitExceededError, ProtocolError
from pkgs.common.events.codes import AUTH_FAIL, CLIENT_DISCONNECT, Kind
from pkgs.common.events.format import new_event
from pkgs.common.events.types import FieldValue
from pkgs.common.membership.member import Member
from pkgs.common.net.dial import split_host_port
from pkgs.common.net.relay import relay
from pkgs.common.net.stream import Stream, adopt
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


class SshGate:
    """The gate of one proxy."""

    def __init__(
        self,
        member: Member,
        connector: Connector,
        clock: Clock,
        log: logging.Logger,
        *,
        allow_ctr: bool = False,
    ) -> None:
        self.member = member
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
        self._unsubscribe: Callable[[], None] = lambda: None

    async def start(self) -> None:
        """Raises UnavailableError."""
        spec = self.member.cache.networking.spec
        self._pool.keep_alive_s = parse_duration(spec.keep_alive_interval)
        self._pool.keep_alive_count = spec.keep_alive_count_max
        await self._pool.start()
        self._unsubscribe = self.member.cache.on_change(self._changed)

    async def serve(self, sock: socket.socket, remote_addr: str) -> None:
        """Serve an accepted connection until it is over. `remote_addr` is the user's `ip:port`."""
        try:
            task = await self._pool.serve(sock, remote_addr)
        except AccessError as problem:
            self.log.warning("a connection is refused: %s", problem, extra={"addr": remote_addr})
            return
        await asyncio.wait([task])

    async def close(self) -> None:
        self._unsubscribe()
        await self._pool.close()

    def _new_connection(self, start: Start, end: Callable[[str], None]) -> _GateConnection:
        connection = _GateConnection(self, start, end)
        self.connections.add(connection)
        return connection

    def _changed(self, kind: str) -> None:
        if kind == "lock":
            for connection in list(self.connections):
                connection.check_lock()

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
        self._streams: set[asyncio.Task[None]] = set()

    def decide(self, user: str, blob: bytes) -> Verdict:
        """Any SSH user name will do here: the login is the server's to decide."""
        gate = self._gate
        try:
            identity = verify_user_cert(
                blob, trust=gate.member.cache.trust, login=None, source_addr=self._source, now=gate.now()
            )
            gate.member.cache.roles_of(identity)
        except AccessError as problem:
            return Verdict(None, problem.message)
        if reason := self._locked(identity):
            return Verdict(None, reason, identity.name, "access denied")
        return Verdict(identity)

    async def refused(self, user: str, verdict: Verdict) -> None:
        await self._emit(
            AUTH_FAIL, user=verdict.user or None, login=user, success=False, error=verdict.reason
        )

    async def authenticated(self, user: str, identity: Identity) -> Message:
        open_now = sum(one.is_of(identity.name) for one in self._gate.connections)
        if open_now >= MAX_CONNECTIONS_OF_USER:
            raise LimitExceededError("you have too many connections to this proxy")
        self._identity = identity
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
        for task in self._streams:
            task.cancel()
        await asyncio.gather(*self._streams, return_exceptions=True)

    def is_of(self, user: str) -> bool:
        """Whether that user has logged in here."""
        return self._identity is not None and self._identity.name == user

    def check_lock(self) -> None:
        """End the connection when a lock now stops its user (attack A14)."""
        if self._identity is not None and (reason := self._locked(self._identity)):
            self._end(reason)
            task = asyncio.create_task(
                self._emit(CLIENT_DISCONNECT, user=self._identity.name, reason=reason), name="audit"
            )
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
        await relay(plain, connected.stream, answer_s=limits.AGENT_ANSWER_S)

    def _locked(self, identity: Identity) -> str:
        member = self._gate.member
        lock = matching_lock(
            member.cache.locks, identity, self._gate.now(), server_id=member.identity.host_id
        )
        return "" if lock is None else lock.spec.message or "locked by an administrator"

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
