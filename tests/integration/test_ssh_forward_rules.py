"""`ssh.forward` of roles with the real client: destinations that are named, and all others."""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import paramiko
import pytest

from pkgs.common.resources.metadata import Metadata
from pkgs.common.resources.role import Conditions, Role, RoleSpec, SshConditions, SshForwardRule
from tests.harness.clients import stop
from tests.harness.ports import free_port
from tests.harness.wait import wait_for
from tests.integration.ssh_kit import SshNode, User, ended, wait_until

pytestmark = [
    pytest.mark.needs("ssh", "ssh-keygen"),
    pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to become other users"),
]


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SshNode]:
    with SshNode(tmp_path_factory.mktemp("node")) as node:
        yield node
        wait_until(lambda: node.pool.open_connections == 0, "no connection is left")


@pytest.fixture(scope="module")
def server() -> Iterator[int]:
    """On the node's loopback: answers what it got, once the other side has sent everything."""
    with socket.create_server(("127.0.0.1", 0)) as listening:

        def serve() -> None:
            while True:
                try:
                    sock, _ = listening.accept()
                except OSError:
                    return
                with sock:
                    data = b""
                    while piece := sock.recv(65536):
                        data += piece
                    sock.sendall(b"got:" + data)

        thread = threading.Thread(target=serve)
        thread.start()
        yield listening.getsockname()[1]
        listening.shutdown(socket.SHUT_RDWR)
        thread.join(10)


def give(node: SshNode, *rules: SshForwardRule, deny: tuple[SshForwardRule, ...] = ()) -> None:
    """What the role `ports` lists from now on."""
    node.state.roles["ports"] = Role(
        metadata=Metadata(name="ports"),
        spec=RoleSpec(
            allow=Conditions(logins=["root"], node_labels={"*": "*"}, ssh=SshConditions(forward=list(rules))),
            deny=Conditions(ssh=SshConditions(forward=list(deny))),
        ),
    )


def to(where: str, *ports: object, direction="local") -> SshForwardRule:
    return SshForwardRule(to=where, ports=[str(port) for port in ports], direction=direction)


@contextmanager
def tunnel(user: User, *flags: str) -> Iterator[subprocess.Popen[bytes]]:
    process = subprocess.Popen(
        user.argv(before=("-N", *flags)), stdin=subprocess.DEVNULL, stderr=subprocess.PIPE
    )
    try:
        yield process
    finally:
        stop(process)


def ask(port: int, data: bytes) -> bytes:
    """What the other end of a tunnel answers; nothing when it hangs up."""

    def connected() -> socket.socket | None:
        try:
            return socket.create_connection(("127.0.0.1", port), timeout=20)
        except ConnectionError:
            return None

    with wait_for(connected, what="the client to listen") as sock:
        try:
            sock.sendall(data)
            with contextlib.suppress(OSError):  # it has hung up already
                sock.shutdown(socket.SHUT_WR)
            answer = b""
            while piece := sock.recv(65536):
                answer += piece
        except ConnectionError:
            return b""
    return answer


def test_f13_a_named_port_of_the_loopback_is_reached_and_no_other(node: SshNode, server: int) -> None:
    give(node, to("localhost", server))
    here, other = free_port(), free_port()
    flags = ("-L", f"{here}:localhost:{server}", "-L", f"{other}:127.0.0.1:{server}")
    with tunnel(node.user("lea", roles=("ports",)), *flags):
        data = os.urandom(1_000_000)
        assert ask(here, data) == b"got:" + data
        assert ask(other, b"by its address") == b""
    failed = wait_until(lambda: ended(node, "lea", "port"), "it is audited")
    assert failed.fields["addr"] in (f"localhost:{server}", f"127.0.0.1:{server}")


@pytest.mark.parametrize(
    ("rules", "deny", "ok"),
    [
        ((to("127.0.0.0/8"),), (), True),
        ((to("127.0.0.1", "1-9"),), (), False),
        ((to("10.0.0.0/8"),), (), False),
        ((to("*"), to("0.0.0.0/0")), (), False),
        ((to("127.0.0.0/8"),), (to("127.0.0.1"),), False),
        ((), (), False),
    ],
    ids=["network", "other port", "other network", "everything", "denied", "no list"],
)
def test_a20_by_network(node: SshNode, server: int, rules, deny, ok: bool) -> None:
    give(node, *rules, deny=deny)
    place = ("direct-tcpip", ("127.0.0.1", server), ("127.0.0.1", 1))
    with node.user("ned", roles=("ports",)).logged_in() as transport:
        if ok:
            transport.open_channel(*place, timeout=20).close()
            return
        with pytest.raises(paramiko.ChannelException) as refused:
            transport.open_channel(*place, timeout=20)
        assert refused.value.code == 1


def test_a14_a_destination_that_is_taken_away_ends_the_connection(node: SshNode, server: int) -> None:
    give(node, to("127.0.0.0/8"))
    with node.user("tia", roles=("ports",)).logged_in() as transport:
        channel = transport.open_channel("direct-tcpip", ("127.0.0.1", server), ("127.0.0.1", 1), timeout=20)
        channel.sendall(b"x")
        give(node, to("127.0.0.0/8", "1-9"))
        node.tell("role")
        wait_until(lambda: not transport.is_active(), "the connection ends")
    assert ended(node, "tia", "client.disconnect").fields["reason"] == "forwarding is no longer permitted"


def test_remote_forwarding_from_named_ports_only(node: SshNode) -> None:
    allowed, other = free_port(), free_port()
    give(node, to("localhost", allowed, direction="remote"))
    with node.user("rex", roles=("ports",)).logged_in() as transport:
        assert transport.request_port_forward("localhost", allowed) == allowed
        with pytest.raises(paramiko.SSHException):
            transport.request_port_forward("localhost", other)

    def audited() -> object:
        told = [e for e in node.events.all if e.code == "T3003E" and e.fields["user"] == "rex"]
        return told and told[0].fields["error"]

    assert "list" in str(wait_until(audited, "it is audited"))
