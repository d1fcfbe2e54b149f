"""Remote port forwarding with the real client: `ssh -R`, its cancellation, half closes, ends and audit."""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import socket
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from pkgs.agents.ssh.messages import ForwardAnswer, OpenForward
from pkgs.common.errors import UnavailableError
from tests.harness.clients import stop
from tests.integration.os_user import OTHER
from tests.integration.ssh_kit import SshNode, User, change_role, ended, wait_until

pytestmark = [
    pytest.mark.needs("ssh", "ssh-keygen"),
    pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to become other users"),
]


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SshNode]:
    with SshNode(tmp_path_factory.mktemp("node")) as node:
        yield node
        wait_until(lambda: node.pool.open_connections == 0, "no connection is left")


@contextlib.contextmanager
def echo() -> Iterator[int]:
    """A server on the client's side that answers what it got once the client has sent everything."""
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve() -> None:
            with contextlib.suppress(OSError):
                while True:
                    sock, _ = server.accept()
                    with sock:
                        data = b""
                        while piece := sock.recv(65536):
                            data += piece
                        sock.sendall(b"got:" + data)

        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield server.getsockname()[1]
        finally:
            server.shutdown(socket.SHUT_RDWR)
            thread.join(10)


class Forwarding:
    """A running `ssh -N -R 0:...` with a control socket."""

    def __init__(self, user: User, to: int, login: str = OTHER, bind: str = "") -> None:
        self.control = Path(f"/tmp/{user.folder.name}.ctl")
        self.spec = f"{bind}0:127.0.0.1:{to}"
        before = ("-N", "-M", "-S", str(self.control), "-o", "ExitOnForwardFailure=yes", "-R", self.spec)
        self.log = user.folder / "log"
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                user.argv(login=login, before=before), stdin=subprocess.DEVNULL, stdout=log, stderr=log
            )
        self.port = int(wait_until(self._allocated, "a port is allocated"))

    def _allocated(self) -> str:
        found = re.search(r"Allocated port (\d+)", self.log.read_text())
        return found[1] if found else ""

    def control_command(self, user: User, *words: str) -> None:
        argv = user.argv(before=("-S", str(self.control), "-O", *words))
        subprocess.run(argv, check=True, capture_output=True, timeout=20)

    def __enter__(self) -> Forwarding:
        return self

    def __exit__(self, *_: object) -> None:
        stop(self.process)


def ask(port: int, data: bytes) -> bytes:
    """Send, say that this is all, and read to the end."""
    with socket.create_connection(("127.0.0.1", port), timeout=20) as sock:
        sock.sendall(data)
        sock.shutdown(socket.SHUT_WR)
        answer = b""
        while piece := sock.recv(65536):
            answer += piece
    return answer


def refused(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), timeout=5).close()
    except ConnectionError:
        return True
    return False


def test_f13_a_remote_forwarding_carries_bytes_after_the_end_of_one_side(node: SshNode) -> None:
    user = node.user("rosa")
    with echo() as to, Forwarding(user, to) as forwarding:
        data = os.urandom(3_000_000)
        assert ask(forwarding.port, data) == b"got:" + data
        assert ask(forwarding.port, b"again") == b"got:again"
        started = ended(node, "rosa", "port")
        assert (started.code, started.fields["addr"]) == ("T3003I", f"remote localhost:{forwarding.port}")
    assert wait_until(lambda: refused(forwarding.port), "nobody listens")
    wait_until(lambda: ended(node, "rosa", "port").code == "T3003S", "the end is audited")


def test_a_cancelled_forwarding_listens_no_more_and_the_connection_stays(node: SshNode) -> None:
    user = node.user("carl")
    with echo() as to, Forwarding(user, to) as forwarding:
        forwarding.control_command(user, "cancel", "-R", forwarding.spec)
        assert wait_until(lambda: refused(forwarding.port), "nobody listens")
        wait_until(lambda: ended(node, "carl", "port").code == "T3003S", "the end is audited")
        forwarding.control_command(user, "check")


def test_a_forwarding_is_never_offered_to_the_network(node: SshNode) -> None:
    with echo() as to, Forwarding(node.user("nora"), to, bind="0.0.0.0:") as forwarding:
        table = Path("/proc/net/tcp").read_text()
        assert f" 0100007F:{forwarding.port:04X} " in table
        assert f" 00000000:{forwarding.port:04X} " not in table
        assert ask(forwarding.port, b"x") == b"got:x"


def test_a_port_that_only_root_may_bind_is_not_bound_for_others(node: SshNode) -> None:
    first_free = int(Path("/proc/sys/net/ipv4/ip_unprivileged_port_start").read_text())
    expected = 255 if first_free > 700 else 0
    before = ("-o", "ExitOnForwardFailure=yes", "-R", "700:127.0.0.1:9")
    assert node.user("peter").ssh("true", login=OTHER, before=before).returncode == expected


@pytest.mark.parametrize(
    ("options", "spec"),
    [
        ({"port_forwarding": False}, {}),
        ({}, {"extensions": ("permit-pty",)}),
        ({}, {"force_command": "true"}),
    ],
    ids=["role", "extension", "a13-forced-command"],
)
def test_a18_remote_forwarding_that_is_not_allowed(
    node: SshNode, options: dict[str, bool], spec: dict[str, object]
) -> None:
    change_role(node, "access", **options)
    try:
        before = ("-o", "ExitOnForwardFailure=yes", "-R", "0:127.0.0.1:9")
        done = node.user("dora", **spec).ssh("true", before=before)
        assert done.returncode == 255
        assert b"remote port forwarding failed" in done.stderr
    finally:
        change_role(node, "access")
    assert ended(node, "dora", "port").code == "T3003E"


def test_a14_a_role_that_no_longer_allows_it_ends_a_live_forwarding(node: SshNode) -> None:
    with echo() as to, Forwarding(node.user("rita"), to) as forwarding:
        change_role(node, "access", port_forwarding=False)
        try:
            node.tell("role")
            assert wait_until(lambda: refused(forwarding.port), "nobody listens")
            forwarding.process.wait(20)
        finally:
            change_role(node, "access")
    wait_until(lambda: ended(node, "rita", "port").code == "T3003S", "the end is audited")


def test_the_end_of_a_forwarding_is_audited_when_a_lock_ends_it(node: SshNode) -> None:
    with echo() as to, Forwarding(node.user("kim"), to) as forwarding:
        node.lock("gone", user="kim")
        assert wait_until(lambda: refused(forwarding.port), "nobody listens")
        wait_until(lambda: ended(node, "kim", "port").code == "T3003S", "the end is audited")


def test_more_forwardings_than_a_connection_may_have(node: SshNode) -> None:
    with node.user("max").logged_in() as transport:
        answers = [transport.global_request("tcpip-forward", ("localhost", 0)) for _ in range(17)]
        assert all(answers[:16])
        assert answers[16] is None
        assert transport.global_request("cancel-tcpip-forward", ("localhost", 1)) is None


def test_no_forwarding_without_its_audit(node: SshNode) -> None:
    with node.user("una").logged_in() as transport:
        node.events.broken = UnavailableError("the audit log is full")
        try:
            assert transport.global_request("tcpip-forward", ("localhost", 0)) is None
        finally:
            node.events.broken = None


def test_a14_a_local_forwarding_ends_too_and_a_plain_session_stays(node: SshNode) -> None:
    user = node.user("lou")
    argv = user.argv("echo on; read line; echo $line")
    with (
        subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as plain,
        node.user("loc").logged_in() as transport,
    ):
        assert plain.stdout is not None
        assert plain.stdout.readline() == b"on\n"
        answers: list[ForwardAnswer] = []

        async def allow() -> None:
            """What the connection's process asks before it dials, which here it does not."""

            async def answer(message: ForwardAnswer) -> None:
                answers.append(message)

            (live,) = [
                each for each in node.reviews._live if each.client and each.client.identity.name == "loc"
            ]  # type: ignore[attr-defined]
            await live.handle(
                OpenForward(channel=9, host="192.0.2.1", port=80, addresses=["192.0.2.1"]), answer
            )  # type: ignore[attr-defined]

        asyncio.run_coroutine_threadsafe(allow(), node.loop).result(10)
        assert [answer.refusal for answer in answers] == [""]
        change_role(node, "access", port_forwarding=False)
        try:
            node.tell("role")
            wait_until(lambda: not transport.is_active(), "the connection ends")
            assert plain.communicate(b"still\n", timeout=20)[0] == b"still\n"
        finally:
            change_role(node, "access")
