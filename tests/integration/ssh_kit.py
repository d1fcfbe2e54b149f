"""An SSH node for tests: real processes, certificates and recordings; the cluster's state in memory."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import io
import logging
import math
import socket
import subprocess
import threading
import time
import uuid
from collections.abc import Callable, Coroutine, Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import msgspec
import paramiko

from pkgs.agents.base.leases import Leases
from pkgs.agents.ssh.connection import Shared, SshConnection
from pkgs.agents.ssh.hostusers.keeper import HostUsers
from pkgs.agents.ssh.messages import FromProcess
from pkgs.agents.ssh.pamfacts import PamFacts
from pkgs.agents.ssh.records.book import Book, Files
from pkgs.common.errors import AccessError
from pkgs.common.events.types import Event
from pkgs.common.membership.reviews import Reviews
from pkgs.common.pki.authority import new_authority
from pkgs.common.pki.certspec import HostCertSpec, UserCertSpec
from pkgs.common.pki.identity import SystemRole
from pkgs.common.pki.keys import SshKey, new_ssh_key
from pkgs.common.pki.signer import SshSigner, signers_of
from pkgs.common.pki.sshcert import line_to_blob, sign_host_cert, sign_user_cert
from pkgs.common.pki.trust import Trust
from pkgs.common.recording.model import Mark, Output, Resize, SessionMeta
from pkgs.common.recording.reader import read_items
from pkgs.common.recording.seal import Signed
from pkgs.common.resources.kinds import (
    Lock,
    LockSpec,
    LockTarget,
    Node,
    RecordingConfig,
    RecordingSpec,
    ServerSpec,
)
from pkgs.common.resources.metadata import Metadata
from pkgs.common.resources.role import Conditions, Role, RoleOptions, RoleSpec
from pkgs.common.sessions.recordings import Recorder
from pkgs.common.sessions.unfinished import Unfinished
from pkgs.common.ssh import wire
from pkgs.common.ssh.owner import HostKey
from pkgs.common.ssh.process.pool import Places, Pool
from pkgs.common.ssh.service.gate import Gate
from tests.integration.os_user import OTHER, make_other
from tests.integration.ssh_cluster import CLUSTER, Events, Semaphores, State, Uploads

HOST_ID = "11111111-2222-4333-8444-555555555555"
MANY_EXTENSIONS = ("permit-pty", "permit-port-forwarding", "permit-agent-forwarding")


class SshNode:
    """One node, its clients and its authorities. A context manager."""

    def __init__(self, folder: Path, *, log: logging.Logger | None = None) -> None:
        make_other()
        self.folder = folder
        self.state = State()
        self.events = Events()
        self.uploads = Uploads()
        self.semaphores = Semaphores()
        self.host_users: HostUsers | None = None
        self.max_processes = 0
        self.places: Places | None = None
        self.own_folder = ""
        self.displays = range(0)
        self.pam = PamFacts()
        self.records = Files(*(folder / name for name in ("utmp", "wtmp", "btmp", "lastlog")))
        """The host's records of logins; a test makes those it wants to read."""
        self.users = new_authority("user", CLUSTER, time.time())
        self.hosts = new_authority("host", CLUSTER, time.time())
        self.state.trust = Trust.from_authorities([self.users, self.hosts], CLUSTER)
        self.state.roles["access"] = role("access", logins=["root", OTHER, "nosuchuser"])
        self.port = 0
        self.now: Callable[[], float] = time.time
        self.pool: Pool
        self._log = log or logging.getLogger("test.ssh")
        self._node = Node(
            metadata=Metadata(name=HOST_ID, labels={"env": "test"}),
            spec=ServerSpec(hostname="node", use_tunnel=True, version="0"),
        )
        key = new_ssh_key()
        self._host_signer = SshSigner.load(key.private_pem)
        spec = HostCertSpec(
            host_id=HOST_ID,
            node_name="node",
            cluster=CLUSTER,
            system_roles=(SystemRole.NODE,),
            valid_after=time.time() - 60,
            valid_before=math.inf,
        )
        host_ca = signers_of(self.hosts).ssh
        assert host_ca is not None
        certificate = line_to_blob(sign_host_cert(host_ca, spec, key.public_line))
        self._host_keys = [
            HostKey(algorithm=wire.Reader(blob).text(), blob=blob)
            for blob in (certificate, self._host_signer.public_blob)
        ]
        self._known_hosts = folder / "known_hosts"
        ca_line = self.state.trust.ssh_ca_lines("host")[0]
        self._known_hosts.write_text(f"@cert-authority * {ca_line}\n")
        self._ready = threading.Event()
        self._failed: BaseException | None = None
        self._thread = threading.Thread(target=self._run, name="ssh node")

    # Life.

    def __enter__(self) -> SshNode:
        self._thread.start()
        assert self._ready.wait(30), "the node does not start"
        if self._failed is not None:
            raise self._failed
        return self

    def __exit__(self, *_: object) -> None:
        self.loop.call_soon_threadsafe(self._stop.set)
        self._thread.join(30)
        assert not self._thread.is_alive()

    def call(self, function: Callable[[], Any]) -> Any:
        """Run in the node's loop."""

        async def run() -> Any:
            return function()

        return asyncio.run_coroutine_threadsafe(run(), self.loop).result(10)

    def run(self, work: Coroutine[Any, Any, Any]) -> Any:
        """Await in the node's loop."""
        return asyncio.run_coroutine_threadsafe(work, self.loop).result(10)

    def _run(self) -> None:
        try:
            asyncio.run(self._main())
        except BaseException as problem:
            self._failed = problem
            self._ready.set()

    async def _main(self) -> None:
        self.loop = asyncio.get_running_loop()
        self._stop = asyncio.Event()
        self.recorder = Recorder(
            self.folder / "upload",
            self.uploads,  # type: ignore[arg-type]
            lambda: self.state.recording_config.spec.mode,
            lambda: self.state.recording_config.recipients,
            lambda message: Signed(self._host_keys[0].blob, self._host_signer.sign(message)),
            time.monotonic,
            self._log,
        )
        self.recorder.start()
        self.gate = Gate(
            self.state,
            lambda: self._node,
            lambda: self.now(),
            takes_relayed=True,
            own_folder=self.own_folder,
            displays=self.displays,
        )
        unfinished = Unfinished(self.folder / "open", self.events, time.time, self._log)
        await unfinished.start()
        self.book = Book(self._log, time.time, self.records)
        shared = Shared(
            gate=self.gate,
            emitter=self.events,
            recorder=self.recorder,
            unfinished=unfinished,
            proxy_addr=lambda: "proxy.example:443",
            permit_user_env=False,
            single_user=False,
            log=self._log,
            leases=Leases(self.semaphores, self._log),  # type: ignore[arg-type]
            host_users=self.host_users,
            book=self.book,
            pam=self.pam,
            max_processes=self.max_processes,
        )
        self.table = shared.table
        shared.leases.start()
        if self.host_users is not None:
            await self.host_users.start()

        self.reviews = Reviews(self._log, time.monotonic)
        self.reviews.start()

        def make(start: Any, end: Any) -> SshConnection:
            connection = SshConnection(shared, start, end, self.reviews.discard)
            self.reviews.add(connection)
            return connection

        self.pool = Pool(
            "pkgs.agents.ssh.session.child",
            make,
            FromProcess,
            lambda: self._host_keys,
            lambda algorithm, data: self._host_signer.sign(data),
            self._log,
            places=self.places,
        )
        await self.pool.start()
        listener = socket.create_server(("127.0.0.1", 0), backlog=128)
        listener.setblocking(False)
        self.port = listener.getsockname()[1]
        accepting = asyncio.create_task(self._accept(listener))
        self._ready.set()
        await self._stop.wait()
        accepting.cancel()
        listener.close()
        await self.pool.close()
        await self.reviews.close()
        await shared.leases.close()
        self.book.close()
        if self.host_users is not None:
            await self.host_users.close()
        await self.recorder.close()

    async def _accept(self, listener: socket.socket) -> None:
        while True:
            sock, addr = await self.loop.sock_accept(listener)
            with contextlib.suppress(AccessError):
                await self.pool.serve(sock, f"{addr[0]}:{addr[1]}")

    # Changing the cluster.

    def lock(self, message: str = "", expires: datetime | None = None, **target: str) -> Lock:
        """Put a lock in force and tell the node."""
        spec = LockSpec(target=LockTarget(**target), message=message, expires=expires)
        lock = Lock(metadata=Metadata(name=str(uuid.uuid4())), spec=spec)

        def apply() -> None:
            self.state.locks = (*self.state.locks, lock)
            self.reviews.changed("lock")

        self.call(apply)
        return lock

    def tell(self, kind: str) -> None:
        """Something of this kind was changed in `state`."""
        self.call(lambda: self.reviews.changed(kind))

    def record(self, mode: str) -> None:
        self.state.recording_config = RecordingConfig(
            metadata=Metadata(name="session-recording-config"),
            spec=RecordingSpec(mode=mode),  # type: ignore[arg-type]
        )

    # Users.

    def user(self, name: str = "alice", **spec: Any) -> User:
        """A user with a key and a certificate of this cluster."""
        key = new_ssh_key()
        return User(self, key, self.sign(key.public_line, name, **spec))

    def sign(self, public_line: str, name: str = "alice", **spec: Any) -> str:
        signer = spec.pop("signer", None) or signers_of(self.users).ssh
        values: dict[str, Any] = {
            "user": name,
            "cluster": CLUSTER,
            "roles": ("access",),
            "logins": ("root", OTHER, "nosuchuser"),
            "valid_after": time.time() - 60,
            "valid_before": time.time() + 3600,
            "extensions": MANY_EXTENSIONS,
            **spec,
        }
        return sign_user_cert(signer, UserCertSpec(**values), public_line)


class User:
    """Somebody with a key, a certificate and the OpenSSH client."""

    def __init__(self, node: SshNode, key: SshKey, certificate: str) -> None:
        self.node = node
        self.certificate = certificate
        self.folder = node.folder / f"user-{uuid.uuid4().hex[:8]}"
        self.folder.mkdir()
        self.key_file = self.folder / "id"
        self.key_file.touch(0o600)
        self.key_file.write_bytes(key.private_pem)
        (self.folder / "id-cert.pub").write_text(certificate + "\n")

    @property
    def blob(self) -> bytes:
        return line_to_blob(self.certificate)

    def options(self, port_flag: str = "-p") -> list[str]:
        options = [
            f"UserKnownHostsFile={self.node._known_hosts}",
            "GlobalKnownHostsFile=/dev/null",
            "HostKeyAlias=node",
            "IdentitiesOnly=yes",
            "IdentityAgent=none",
            "StrictHostKeyChecking=yes",
            "BatchMode=yes",
            "ConnectTimeout=20",
        ]
        flags = [word for option in options for word in ("-o", option)]
        return ["-F", "/dev/null", *flags, "-i", str(self.key_file), port_flag, str(self.node.port)]

    def argv(self, *args: str, login: str = "root", before: tuple[str, ...] = ()) -> list[str]:
        return ["ssh", *self.options(), *before, f"{login}@127.0.0.1", *args]

    def ssh(
        self,
        *args: str,
        login: str = "root",
        before: tuple[str, ...] = (),
        stdin: bytes = b"",
        timeout: float = 60,
        env: dict[str, str] | None = None,
    ) -> subprocess.CompletedProcess[bytes]:
        argv = self.argv(*args, login=login, before=before)
        return subprocess.run(argv, input=stdin, capture_output=True, timeout=timeout, env=env)

    def transport(self) -> paramiko.Transport:
        """A raw client, past the key exchange and not logged in. Close it."""
        sock = socket.create_connection(("127.0.0.1", self.node.port))
        transport = paramiko.Transport(sock)
        transport.start_client(timeout=20)
        return transport

    def key(self) -> paramiko.PKey:
        key = paramiko.Ed25519Key.from_private_key_file(str(self.key_file))
        key.load_certificate(str(self.folder / "id-cert.pub"))
        return key

    @contextlib.contextmanager
    def logged_in(self, login: str = "root") -> Iterator[paramiko.Transport]:
        transport = self.transport()
        try:
            transport.auth_publickey(login, self.key())
            yield transport
        finally:
            transport.close()
            transport.join(10)


def role(name: str, *, logins: list[str], **options: Any) -> Role:
    return Role(
        metadata=Metadata(name=name),
        spec=RoleSpec(
            options=RoleOptions(**options),
            allow=Conditions(logins=logins, node_labels={"*": "*"}),
        ),
    )


def change_role(node: SshNode, name: str, **options: Any) -> None:
    """A new role object of the same name with other options."""
    old = node.state.roles[name]
    spec = msgspec.structs.replace(old.spec, options=RoleOptions(**options))
    node.state.roles[name] = msgspec.structs.replace(old, spec=spec)


def wait_until(condition: Callable[[], Any], what: str, timeout_s: float = 20) -> Any:
    end = time.monotonic() + timeout_s
    while time.monotonic() < end:
        if found := condition():
            return found
        time.sleep(0.02)
    raise AssertionError(f"did not happen in {timeout_s} s: {what}")


def ended(node: SshNode, user: str, name: str = "session.end") -> Event:
    """The event of that name of this user's newest session, when it comes."""
    found = wait_until(
        lambda: [event for event in node.events.named(name) if event.fields.get("user") == user],
        f"{name} of {user}",
    )
    event: Event = found[-1]
    return event


def recording_of(node: SshNode, user: str) -> Recorded:
    """The recording of this user's newest session, uploaded."""
    sid = str(ended(node, user).fields["sid"])
    return read_recording(wait_until(lambda: node.uploads.finished.get(sid), "upload"))


@dataclass
class Recorded:
    meta: SessionMeta
    output: bytes
    sizes: list[tuple[int, int]]
    marks: list[str]


def read_recording(data: bytes) -> Recorded:
    items = list(read_items(io.BytesIO(data)))
    meta = next(item for item in items if isinstance(item, SessionMeta))
    return Recorded(
        meta,
        b"".join(item.data for item in items if isinstance(item, Output)),
        [(item.cols, item.rows) for item in items if isinstance(item, Resize)],
        [item.kind for item in items if isinstance(item, Mark)],
    )


def children_of(pid: int) -> list[int]:
    found: list[int] = []
    for task in Path(f"/proc/{pid}/task").iterdir():
        with contextlib.suppress(OSError):
            found += [int(text) for text in (task / "children").read_text().split()]
    return found


def cert_type(blob: bytes) -> str:
    return wire.Reader(blob).text()


def encode(blob: bytes) -> str:
    return base64.b64encode(blob).decode()
