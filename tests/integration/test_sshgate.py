"""The proxy's SSH port with the OpenSSH client: jumps to servers, and nothing else (A18, A20, A21)."""

from __future__ import annotations

import asyncio
import logging
import os
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import paramiko
import pytest

from pkgs.common.access.types import Decision
from pkgs.common.errors import NotFoundError
from pkgs.common.membership.reviews import Reviews
from pkgs.common.net.dial import dial_tcp
from pkgs.common.net.stream import adopt
from pkgs.common.pki.certspec import HostCertSpec
from pkgs.common.pki.identity import Identity, SystemRole
from pkgs.common.pki.keys import new_ssh_key
from pkgs.common.pki.signer import signers_of
from pkgs.common.pki.sshcert import sign_host_cert
from pkgs.common.resources.kinds import Node
from pkgs.common.runtime.clock import SystemClock
from pkgs.proxy.sshgate.child import parse_subsystem
from pkgs.proxy.sshgate.gate import SshGate
from tests.integration.ssh_kit import CLUSTER, Events, SshNode, User, change_role, wait_until

pytestmark = [
    pytest.mark.needs("ssh", "sftp"),
    pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to become other users"),
]
PROXY_ID = "33333333-2222-4333-8444-555555555555"


class _Connector:
    """Reaches one node, by its name, for everybody."""

    def __init__(self, node: SshNode) -> None:
        self._node = node
        self.asked: list[tuple[str, str, str, str]] = []
        self.allows = Decision(True)

    async def connect_user(
        self,
        identity: Identity,
        target: str,
        *,
        client_addr: str,
        service: str = "ssh",
        cluster: str = "",
        login: str = "",
    ) -> Any:
        self.asked.append((identity.name, target, client_addr, cluster))
        if target.partition(":")[0] != "node":
            raise NotFoundError(f"no server {target!r}")
        sock = await dial_tcp(f"127.0.0.1:{self._node.port}")
        return SimpleNamespace(stream=await adopt(sock), node=self._node._node)

    def still_allows(self, identity: Identity, node: Node, *, client_addr: str, login: str) -> Decision:
        return self.allows


class Gate:
    """A gate in a thread of its own, in front of one node."""

    def __init__(self, node: SshNode) -> None:
        key = new_ssh_key()
        spec = HostCertSpec(
            host_id=PROXY_ID,
            node_name="proxy",
            cluster=CLUSTER,
            system_roles=(SystemRole.PROXY,),
            valid_after=time.time() - 60,
        )
        signer = signers_of(node.hosts).ssh
        assert signer is not None
        self.events = Events()
        self.connector = _Connector(node)
        self._member: Any = SimpleNamespace(
            cache=node.state,
            emitter=self.events,
            identity=SimpleNamespace(
                host_id=PROXY_ID,
                ssh_private_pem=key.private_pem,
                ssh_cert=sign_host_cert(signer, spec, key.public_line),
            ),
        )
        self._ready = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._main()), name="gate")
        self._thread.start()
        assert self._ready.wait(30)

    def tell(self, kind: str) -> None:
        self.loop.call_soon_threadsafe(self._reviews.changed, kind)

    async def _main(self) -> None:
        self.loop = asyncio.get_running_loop()
        self._stop = asyncio.Event()
        log, clock = logging.getLogger("test.gate"), SystemClock()
        self._reviews = Reviews(log, clock.monotonic)
        self._reviews.start()
        gate = SshGate(self._member, self.connector, clock, log, reviews=self._reviews)
        await gate.start()
        listener = socket.create_server(("127.0.0.1", 0), backlog=64)
        listener.setblocking(False)
        self.port = listener.getsockname()[1]
        serving: set[asyncio.Task[None]] = set()

        async def accept() -> None:
            while True:
                sock, addr = await self.loop.sock_accept(listener)
                serving.add(asyncio.create_task(gate.serve(sock, f"{addr[0]}:{addr[1]}")))

        accepting = asyncio.create_task(accept())
        self._ready.set()
        await self._stop.wait()
        accepting.cancel()
        listener.close()
        await gate.close()
        await self._reviews.close()
        await asyncio.gather(accepting, *serving, return_exceptions=True)

    def close(self) -> None:
        self.loop.call_soon_threadsafe(self._stop.set)
        self._thread.join(30)
        assert not self._thread.is_alive()


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SshNode]:
    with SshNode(tmp_path_factory.mktemp("node")) as node:
        yield node


@pytest.fixture(scope="module")
def gate(node: SshNode) -> Iterator[Gate]:
    gate = Gate(node)
    yield gate
    gate.close()


def config_of(gate: Gate, user: User) -> Path:
    path = user.folder / "config"
    path.write_text(
        f"""Host *
  UserKnownHostsFile {user.node._known_hosts}
  GlobalKnownHostsFile /dev/null
  IdentitiesOnly yes
  IdentityAgent none
  IdentityFile {user.key_file}
  BatchMode yes
  StrictHostKeyChecking yes
Host gate
  HostName 127.0.0.1
  HostKeyAlias proxy
  Port {gate.port}
  User whoever
Host node
  ProxyJump gate
  User root
Host sub
  HostKeyAlias node
  ProxyCommand ssh -F {path} -s gate proxy:node:0@{CLUSTER}
  User root
"""
    )
    return path


def ssh(gate: Gate, user: User, *args: str, program: str = "ssh") -> subprocess.CompletedProcess[bytes]:
    argv = [program, "-F", str(config_of(gate, user)), *args]
    return subprocess.run(argv, capture_output=True, stdin=subprocess.DEVNULL, timeout=60)


def test_jump_through_the_proxy(node: SshNode, gate: Gate) -> None:
    done = ssh(gate, node.user("jo"), "node", "echo $SSH_TELEPORT_USER; exit 4")
    assert (done.stdout, done.returncode) == (b"jo\n", 4)
    name, target, client, _ = gate.connector.asked[-1]
    assert (name, target) == ("jo", "node:22")
    assert client.startswith("127.0.0.1:")


def test_proxy_subsystem(node: SshNode, gate: Gate) -> None:
    done = ssh(gate, node.user("sue"), "sub", "echo in")
    assert done.stdout == b"in\n", done.stderr
    assert gate.connector.asked[-1][1::2] == ("node", CLUSTER)


def test_bulk_through_the_gate_is_whole(node: SshNode, gate: Gate) -> None:
    done = ssh(
        gate,
        node.user(),
        "node",
        "head -c 20000000 /dev/urandom | tee /dev/stderr | md5sum >/tmp/$$; cat /tmp/$$; rm /tmp/$$",
    )
    assert done.returncode == 0
    assert len(done.stderr) >= 20_000_000


def test_a21_nothing_runs_on_the_proxy_itself(node: SshNode, gate: Gate) -> None:
    user = node.user("ned")
    for args in (
        ("gate", "id"),
        ("gate",),
        ("-s", "gate", "sftp"),
        ("-s", "gate", "proxy:"),
        ("-tt", "gate"),
    ):
        done = ssh(gate, user, *args)
        assert done.returncode != 0, args
        assert b"uid=" not in done.stdout
    assert ssh(gate, user, "-b", "/dev/null", "gate", program="sftp").returncode != 0
    done = ssh(gate, user, "gate", "id")
    assert b"only jumps to servers" in done.stderr


def test_a20_the_gate_reaches_registered_servers_only(node: SshNode, gate: Gate) -> None:
    user = node.user("nat")
    with socket.create_server(("127.0.0.1", 0)) as victim:
        victim.settimeout(0.2)
        port = victim.getsockname()[1]
        done = ssh(gate, user, "-W", f"127.0.0.1:{port}", "gate")
        assert done.returncode != 0
        assert b"no server" in done.stderr
        with pytest.raises(TimeoutError):
            victim.accept()
    done = ssh(gate, user, "-N", "-R", "0:127.0.0.1:1", "-o", "ExitOnForwardFailure=yes", "gate")
    assert done.returncode != 0


def test_bad_certificates_do_not_get_in(node: SshNode, gate: Gate) -> None:
    done = ssh(gate, node.user("pia", source_addr="192.0.2.1"), "node", "id")
    assert done.returncode == 255
    wait_until(lambda: gate.events.named("auth"), "audit")


def test_a14_a_lock_ends_a_jump(node: SshNode, gate: Gate) -> None:
    user = node.user("loki")
    argv = ["ssh", "-F", str(config_of(gate, user)), "node", "echo up; sleep 60"]
    with subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as client:
        assert client.stdout is not None
        assert client.stdout.readline() == b"up\n"
        node.lock(user="loki", message="why")
        gate.tell("lock")
        assert client.wait(5) != 0
    done = ssh(gate, user, "node", "id")
    assert done.returncode == 255
    assert b'lock targeting User:"loki" is in force: why' in done.stderr


def test_a14_a_jump_is_cut_when_its_server_does_not_end_it(node: SshNode, gate: Gate) -> None:
    user = node.user("lyra")
    argv = ["ssh", "-F", str(config_of(gate, user)), "node", "echo up; sleep 60"]
    with subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as client:
        assert client.stdout is not None
        assert client.stdout.readline() == b"up\n"
        gate.connector.allows = Decision(False, ("lock no: stolen",))
        try:
            gate.tell("lock")
            assert client.wait(5) != 0
        finally:
            gate.connector.allows = Decision(True)
    (event,) = wait_until(
        lambda: [e for e in gate.events.named("client.disconnect") if e.fields.get("user") == "lyra"],
        "the audit event",
    )
    assert event.fields["reason"] == "lock no: stolen"


def test_f07_strict_refuses_at_the_gate_when_the_locks_are_not_known(node: SshNode, gate: Gate) -> None:
    kept = node.state.roles["access"]
    user = node.user("sven")
    node.state.stale_for_s = 301.0
    try:
        assert ssh(gate, user, "node", "echo in").stdout == b"in\n"
        change_role(node, "access", lock="strict")
        done = ssh(gate, user, "node", "echo in")
        assert done.returncode == 255
        assert b"not known for certain" in done.stderr
    finally:
        node.state.stale_for_s = 0.0
        node.state.roles["access"] = kept


def test_processes_of_the_gate_have_no_power(node: SshNode, gate: Gate) -> None:
    user = node.user("gil")
    sock = socket.create_connection(("127.0.0.1", gate.port))
    transport = paramiko.Transport(sock)
    try:
        transport.start_client(timeout=20)
        transport.auth_publickey("x", user.key())
        found = [
            status
            for status in Path("/proc").glob("[0-9]*/status")
            if "\nUid:\t65534" in (text := _read(status)) and f"\nCapEff:\t{'0' * 16}" in text
        ]
        roots = [str((status.parent / "root").readlink()) for status in found]
        assert any("teleport-gate-" in root for root in roots), roots
    finally:
        transport.close()
        transport.join(10)


def _read(path: Path) -> str:
    try:
        return path.read_text()
    except OSError:
        return ""


def test_subsystem_names() -> None:
    assert parse_subsystem("proxy:host:22") == ("host:22", "")
    assert parse_subsystem("proxy:host:0@leaf") == ("host", "leaf")
    assert parse_subsystem("proxy:host:@default@leaf") == ("host", "leaf")
    for bad in ("proxy:", "proxy:@leaf", "proxy:host", "proxy:h:99999", "proxy:h:x", "proxy:h:1@a@b@c"):
        with pytest.raises(ValueError, match="proxy"):
            parse_subsystem(bad)
