"""A cluster that says whatever a test wants, for the real `tsh` and `tctl` programs.

One thread with an event loop serves the Auth API on `auth.sock` and, behind one TLS port with the ALPN of a
proxy, the Auth API and user streams. Certificates are real; what is served is the test's.
"""

from __future__ import annotations

import asyncio
import base64
import os
import subprocess
import threading
import time
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import msgspec

from pkgs.clients.tsh.login.webapi import HostSigner, LoginAnswer
from pkgs.clients.tsh.profile import home, store
from pkgs.common.api.audit import AuditVerdict, EventChunk, SearchEvents, StoredEvent, VerifyAudit
from pkgs.common.api.recordings import (
    DownloadRecording,
    ListRecordings,
    RecordingChunk,
    RecordingInfo,
    RecordingList,
)
from pkgs.common.api.resources import Chunk, GetResource, Got, ListResources
from pkgs.common.api.system import ClusterStatus, GetClusterStatus
from pkgs.common.api.tunnel import UserDial, UserDialReply
from pkgs.common.errors import AccessError, NotFoundError
from pkgs.common.events.types import Event
from pkgs.common.net.framing import encode_frame, read_frame
from pkgs.common.net.handshake import accept_tls
from pkgs.common.net.listener import Accepted, Listener, bind
from pkgs.common.net.stream import Stream
from pkgs.common.net.tls import server_context
from pkgs.common.pki import keys
from pkgs.common.pki.authority import new_authority
from pkgs.common.pki.certspec import HostCertSpec, UserCertSpec
from pkgs.common.pki.identity import Identity, SystemRole
from pkgs.common.pki.signer import signers_of
from pkgs.common.pki.sshcert import sign_user_cert
from pkgs.common.pki.trust import Trust
from pkgs.common.pki.x509 import sign_host_tls, sign_user_tls, verify_peer
from pkgs.common.resources.kinds import Node, Resource, ServerSpec
from pkgs.common.resources.metadata import Metadata
from pkgs.common.rpc.calls import Caller, Callers
from pkgs.common.rpc.server import Registry, RpcServer

ROOT = Path(__file__).resolve().parents[2]
CLUSTER = "demo"
SESSION = "11111111-2222-4333-8444-555555555555"

Serve = Callable[[Stream, UserDial], Awaitable[None]]


def node(hostname: str, host_id: str = "", **labels: str) -> Node:
    """A node reached by tunnel."""
    name = host_id or str(uuid.uuid5(uuid.NAMESPACE_DNS, hostname))
    return Node(
        metadata=Metadata(name=name, labels=labels),
        spec=ServerSpec(hostname=hostname, use_tunnel=True, version="0.1.0"),
    )


def stored(seq: int, kind: str, **fields: Any) -> StoredEvent:
    """One audit event."""
    event = Event(
        event=kind, code="T1000I", time="2026-01-02T03:04:05.006Z", uid=str(seq), cluster_name=CLUSTER,
        fields=fields,
    )  # fmt: skip
    return StoredEvent(seq=seq, event=event, hash="00")


class FakeCluster:
    """`with FakeCluster(tmp) as cluster`. Set `resources`, `events`, `recording`, `error`, `serve` freely."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.resources: list[Resource] = []
        self.events: list[StoredEvent] = []
        self.recordings: list[RecordingInfo] = []
        self.recording = b""
        self.verdict = AuditVerdict(ok=True, events=0, head="00")
        self.error: AccessError | None = None
        self.reply = UserDialReply(hostname="demo-node")
        self.serve: Serve = _echo
        self.dials: list[UserDial] = []
        now = time.time()
        self._user_ca = new_authority("user", CLUSTER, now)
        self._host_ca = new_authority("host", CLUSTER, now)
        self.trust = Trust.from_authorities([self._user_ca, self._host_ca])
        self.port = 0
        self._ready = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._loop = asyncio.new_event_loop()
        self._stop = asyncio.Event()

    # --- life

    def __enter__(self) -> FakeCluster:
        (self.folder / "data").mkdir(mode=0o700)
        self._thread.start()
        assert self._ready.wait(20)
        self.config.write_text(
            f"version: v3\nteleport: {{data_dir: {self.folder}/data}}\nauth_service: {{enabled: yes}}\n"
            "proxy_service: {enabled: no}\nssh_service: {enabled: no}\n"
        )
        self.log_in()
        return self

    def __exit__(self, *_: object) -> None:
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join(20)
        assert not self._thread.is_alive()

    def _run(self) -> None:
        with asyncio.Runner(loop_factory=lambda: self._loop) as runner:
            runner.run(self._main())

    async def _main(self) -> None:
        rpc = RpcServer(self._registry(), identify=self._identify)
        await rpc.start(self.folder)
        await rpc.listen_unix(self.folder / "data" / "auth.sock")
        listener = Listener(bind("127.0.0.1:0"), lambda accepted: self._accept(accepted, rpc))
        listener.start()
        self.port = int(listener.addresses[0].rpartition(":")[2])
        self._ready.set()
        await self._stop.wait()
        await listener.close()
        await rpc.close()

    # --- who

    @property
    def config(self) -> Path:
        return self.folder / "teleport.yaml"

    @property
    def home(self) -> Path:
        return self.folder / "home" / ".tsh"

    @property
    def addr(self) -> str:
        return f"127.0.0.1:{self.port}"

    def log_in(self, *, ttl_s: float = 3600, trust: FakeCluster | None = None) -> None:
        """Store a login for alice, as `tsh login` would; `trust` takes another cluster's authority."""
        ssh, tls, now = keys.new_ssh_key(), keys.new_tls_key(), time.time()
        spec = UserCertSpec(
            user="alice", cluster=CLUSTER, roles=("access",), traits={}, logins=("root",),
            valid_after=now - 7200, valid_before=now + ttl_s, extensions=("permit-pty",),
        )  # fmt: skip
        signers = signers_of(self._user_ca)
        assert signers.ssh is not None and signers.tls is not None
        host = (trust or self).trust
        answer = LoginAnswer(
            username="alice",
            cluster_name=CLUSTER,
            cert=_b64(sign_user_cert(signers.ssh, spec, ssh.public_line)),
            tls_cert=_b64(sign_user_tls(signers.tls, spec, tls.public_pem)),
            host_signers=[
                HostSigner(
                    type="host",
                    domain_name=CLUSTER,
                    checking_keys=[_b64(line) for line in host.ssh_ca_lines("host")],
                    tls_certs=[_b64(host.tls_roots_pem("host"))],
                )
            ],
        )
        profile = home.Profile("127.0.0.1", self.addr, "alice", CLUSTER)
        store.save(str(self.home), profile, store.Issued(answer, user="alice"), ssh, tls)

    @property
    def env(self) -> dict[str, str]:
        clean = {k: v for k, v in os.environ.items() if not k.startswith("TELEPORT_")}
        return {**clean, "TELEPORT_HOME": str(self.home), "HOME": str(self.home.parent), "USER": "root"}

    def run(self, tool: str, *words: str, stdin: bytes = b"") -> subprocess.CompletedProcess[bytes]:
        """A program of bin/, to its end."""
        argv = [str(ROOT / "bin" / tool), *(("-c", str(self.config)) if tool == "tctl" else ()), *words]
        return subprocess.run(argv, input=stdin, capture_output=True, timeout=60, env=self.env)

    # --- what is served

    def _identify(self, der: bytes | None) -> Identity | None:
        return None if der is None else verify_peer(der, trust=self.trust, now=time.time())

    def _host_context(self, alpn: str) -> Any:
        tls, now = keys.new_tls_key(), time.time()
        signers = signers_of(self._host_ca)
        assert signers.tls is not None
        spec = HostCertSpec(
            host_id="99999999-0000-4000-8000-000000000000",
            cluster=CLUSTER,
            system_roles=(SystemRole.AUTH, SystemRole.PROXY),
            valid_after=now - 60,
        )
        return server_context(
            cert_pem=sign_host_tls(signers.tls, spec, tls.public_pem),
            key_pem=tls.private_pem,
            client_roots_pem=self.trust.tls_roots_pem("user"),
            alpn=[alpn],
        )

    async def _accept(self, accepted: Accepted, rpc: RpcServer) -> None:
        assert accepted.hello is not None
        alpn = accepted.hello.alpn[0]
        context = self._host_context(alpn)
        if alpn.startswith("teleport-auth@"):
            await rpc.serve_tls_socket(accepted.sock, context, accepted.remote_ip)
            return
        try:
            stream = await accept_tls(accepted.sock, context)
        except AccessError:
            return
        try:
            dial = await read_frame(stream, UserDial)
            self.dials.append(dial)
            stream.write(encode_frame(self.reply))
            await stream.drain()
            if not self.reply.error:
                await self.serve(stream, dial)
        except AccessError:
            # The client went away: its choice.
            return
        finally:
            await stream.close()

    def _check(self) -> None:
        if self.error is not None:
            raise self.error

    def _registry(self) -> Registry:
        found = Registry()
        known = Callers.USER | Callers.ADMIN
        for request, handler in (
            (ListResources, self._list),
            (GetResource, self._get),
            (GetClusterStatus, self._status),
            (SearchEvents, self._events),
            (VerifyAudit, self._verify),
            (ListRecordings, self._list_recordings),
            (DownloadRecording, self._download),
        ):
            found.register(request, handler, callers=known)  # type: ignore[arg-type]
        return found

    async def _list(self, caller: Caller, request: ListResources) -> AsyncIterator[Chunk]:
        self._check()
        chosen = [
            r
            for r in self.resources
            if r.kind == request.kind
            and request.labels.items() <= r.metadata.labels.items()
            and all(any(word in text for text in _texts(r)) for word in request.search)
        ]
        for at in range(0, len(chosen), 50):
            yield Chunk(chosen[at : at + 50])

    async def _get(self, caller: Caller, request: GetResource) -> Got:
        self._check()
        for resource in self.resources:
            if resource.kind == request.kind and resource.name == request.name:
                return Got(resource)
        raise NotFoundError(f"{request.kind} {request.name!r} not found")

    async def _status(self, caller: Caller, request: GetClusterStatus) -> ClusterStatus:
        self._check()
        return ClusterStatus(
            cluster_name=CLUSTER, server_version="0.1.0", ca_pins=self.trust.pins(), authorities=[]
        )

    async def _events(self, caller: Caller, request: SearchEvents) -> AsyncIterator[EventChunk]:
        self._check()
        events = self.events if request.order == "asc" else self.events[::-1]
        yield EventChunk(events[: request.limit])

    async def _verify(self, caller: Caller, request: VerifyAudit) -> AuditVerdict:
        return self.verdict

    async def _list_recordings(self, caller: Caller, request: ListRecordings) -> AsyncIterator[RecordingList]:
        self._check()
        yield RecordingList(self.recordings)

    async def _download(self, caller: Caller, request: DownloadRecording) -> AsyncIterator[RecordingChunk]:
        self._check()
        if request.session_id != SESSION:
            raise NotFoundError("no such recording")
        for at in range(0, len(self.recording), 1000):
            yield RecordingChunk(self.recording[at : at + 1000])


def _texts(resource: Resource) -> list[str]:
    """Where words are sought."""
    hostname = [resource.spec.hostname] if isinstance(resource, Node) else []
    return [resource.name, *hostname, *resource.metadata.labels.values()]


async def _echo(stream: Stream, dial: UserDial) -> None:
    while data := await stream.read_some():
        stream.write(data)
        await stream.drain()


def _b64(text: str) -> str:
    return base64.b64encode(text.encode()).decode()


def renamed(resource: Resource, name: str) -> Resource:
    """The same resource under another name."""
    return msgspec.structs.replace(resource, metadata=msgspec.structs.replace(resource.metadata, name=name))
