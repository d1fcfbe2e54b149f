"""All connections that end here: their pool of processes, host certificates, recordings; streams in."""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

from pkgs.common.api.openssh import IssueOpensshHostCert
from pkgs.common.errors import AccessError, DeniedError, LimitExceededError, UnavailableError
from pkgs.common.membership.member import Member
from pkgs.common.membership.reviews import Reviews
from pkgs.common.net.relay import relay
from pkgs.common.net.stream import Stream, adopt
from pkgs.common.pki.keys import new_ssh_key
from pkgs.common.pki.signer import SshSigner
from pkgs.common.pki.sshcert import line_to_blob
from pkgs.common.recording.seal import Signed
from pkgs.common.resources.durations import parse_duration
from pkgs.common.resources.kinds import Node
from pkgs.common.resources.kinds.servers import OPENSSH
from pkgs.common.runtime.clock import Clock
from pkgs.common.sessions.recordings import Recorder
from pkgs.common.sessions.unfinished import Unfinished
from pkgs.common.ssh import wire
from pkgs.common.ssh.owner import HostKey
from pkgs.common.ssh.process.messages import Start
from pkgs.common.ssh.process.pool import Pool
from pkgs.common.ssh.service.gate import Gate
from pkgs.proxy.terminate.connection import Shared, Terminated
from pkgs.proxy.terminate.limits import CERT_CALL_S, HOST_CERT_RENEW_S, MAX_HOST_CERTS
from pkgs.proxy.terminate.messages import FromProcess


class Ways(Protocol):
    """How servers are reached. Both raise AccessError."""

    async def dial_registered(self, node: Node) -> socket.socket:
        """A connection to the address of a server without an agent."""

    async def dial_agent(self, node: Node, client_addr: str) -> Stream:
        """A stream to an agent, which is told where its user comes from."""


class Terminator:
    """Made with the proxy; its processes are started when the first user comes."""

    def __init__(
        self,
        member: Member,
        ways: Ways,
        folder: Path,
        clock: Clock,
        reviews: Reviews,
        log: logging.Logger,
        *,
        allow_ctr: bool = False,
    ) -> None:
        self._member = member
        self._now = clock.now
        self._ways = ways
        self._relays: set[asyncio.Task[None]] = set()
        self._reviews = reviews
        self._log = log
        key = new_ssh_key()
        self._public_line = key.public_line
        self._signer = SshSigner.load(key.private_pem)
        """The host key that users see: of this run of this proxy, in memory only."""
        self._certificates: dict[tuple[str, ...], tuple[float, HostKey]] = {}
        self._open: set[Terminated] = set()
        self._starting = asyncio.Lock()
        self._started = False
        self._recorder = Recorder(
            folder / "upload",
            member.client,
            lambda: member.cache.recording_config.spec.mode,
            lambda: member.cache.recording_config.recipients,
            self._seal,
            clock.monotonic,
            log,
            by="proxy",
        )
        self._unfinished = Unfinished(folder / "open", member.emitter, clock.now, log)
        self._shared = Shared(
            client=member.client,
            emitter=member.emitter,
            recorder=self._recorder,
            unfinished=self._unfinished,
            reach=self._reach,
            log=log,
            host_id=member.identity.host_id,
            counts=self._count,
        )
        self._pool = Pool(
            "pkgs.proxy.terminate.child",
            _without_node,
            FromProcess,
            list,
            lambda algorithm, data: self._signer.sign(data),
            log,
            allow_ctr=allow_ctr,
        )

    async def start(self) -> None:
        """Take up what an earlier process left: recordings to upload, sessions whose end nobody told."""
        self._recorder.start()
        await self._unfinished.start()

    async def connect(self, node: Node, client_addr: str) -> Stream:
        """A stream on which this proxy is that server. Raises AccessError."""
        await self._ready()
        host_key = await self._host_key(node)
        has_agent = node.sub_kind != OPENSSH
        gate = Gate(
            self._member.cache,
            lambda: self._registered(node.name, has_agent=has_agent),
            self._now,
            passes_on=has_agent,
        )

        def make(start: Start, end: Callable[[str], None]) -> Terminated:
            made = Terminated(self._shared, gate, node, start, end, self._forget)
            self._open.add(made)
            self._reviews.add(made)
            return made

        ours, theirs = socket.socketpair()
        try:
            await self._pool.serve(theirs, client_addr, host_keys=[host_key], make_service=make)
            ours.setblocking(False)
            return await adopt(ours)
        except BaseException:
            ours.close()
            raise

    async def close(self) -> None:
        if self._started:
            await self._pool.close()
        for task in self._relays:
            task.cancel()
        await asyncio.gather(*self._relays, return_exceptions=True)
        await self._recorder.close()

    async def _reach(self, node: Node, client_addr: str) -> socket.socket:
        if node.sub_kind == OPENSSH:
            return await self._ways.dial_registered(node)
        stream = await self._ways.dial_agent(node, client_addr)
        ours, theirs = socket.socketpair()
        try:
            ours.setblocking(False)
            inner = await adopt(ours)
        except BaseException:
            stream.abort()
            ours.close()
            theirs.close()
            raise
        task = asyncio.create_task(_pass(inner, stream), name="stream to an agent")
        self._relays.add(task)
        task.add_done_callback(self._relays.discard)
        return theirs

    def _registered(self, node_id: str, *, has_agent: bool) -> Node:
        """The server as it is now. Raises DeniedError when it is gone."""
        node = self._member.cache.nodes.get(node_id)
        if node is None or (node.sub_kind != OPENSSH) != has_agent:
            raise DeniedError("the server is not registered any more")
        return node

    def _forget(self, one: Terminated) -> None:
        self._open.discard(one)
        self._reviews.discard(one)

    def _count(self, user: str) -> int:
        return sum(one.client is not None and one.client.identity.name == user for one in self._open)

    async def _ready(self) -> None:
        async with self._starting:
            if not self._started:
                spec = self._member.cache.networking.spec
                self._pool.keep_alive_s = parse_duration(spec.keep_alive_interval)
                self._pool.keep_alive_count = spec.keep_alive_count_max
                await self._pool.start()
                self._started = True

    async def _host_key(self, node: Node) -> HostKey:
        """The certificate that users see, for this server's names as they are now."""
        place = (node.name, node.spec.hostname, *node.spec.public_addrs)
        known = self._certificates.get(place)
        if known is not None and self._now() < known[0] + HOST_CERT_RENEW_S:
            return known[1]
        if len(self._certificates) >= MAX_HOST_CERTS:
            self._certificates.clear()
        try:
            issued = await self._member.client.call(
                IssueOpensshHostCert(node=node.name, ssh_public_key=self._public_line),
                deadline_s=CERT_CALL_S,
            )
        except LimitExceededError:
            raise
        except AccessError as problem:
            self._log.error("no host certificate for a server: %s", problem, extra={"host_id": node.name})
            raise UnavailableError(
                f"server {node.spec.hostname!r} cannot be served at the moment", detail=problem.message
            ) from problem
        blob = line_to_blob(issued.ssh_cert)
        made = HostKey(algorithm=wire.Reader(blob).text(), blob=blob)
        self._certificates[place] = (self._now(), made)
        return made

    def _seal(self, message: bytes) -> Signed:
        """Sign the end of a recording, as the host that recorded it."""
        identity = self._member.identity
        return Signed(line_to_blob(identity.ssh_cert), SshSigner.load(identity.ssh_private_pem).sign(message))


async def _pass(inner: Stream, stream: Stream) -> None:
    await relay(inner, stream)


def _without_node(start: Start, end: Callable[[str], None]) -> Terminated:
    raise AssertionError("every connection comes with its server")
