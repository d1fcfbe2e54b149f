"""`max_connections` as users meet it: the next connection is refused in words, and a place that is free again
is free again."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Iterator

import pytest

from pkgs.common.errors import UnavailableError
from tests.integration.ssh_kit import SshNode, ended, role, wait_until

pytestmark = [
    pytest.mark.needs("ssh"),
    pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to log in as it"),
]


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SshNode]:
    with SshNode(tmp_path_factory.mktemp("node")) as node:
        node.state.roles["few"] = role("few", logins=["root"], max_connections=1)
        yield node


def test_one_connection_too_many_is_refused_in_words(node: SshNode) -> None:
    node.semaphores.most = 1
    user = node.user("lia", roles=("few",))
    with user.logged_in() as transport:
        channel = transport.open_session()
        channel.exec_command("cat")
        refused = user.ssh("echo in")
        assert refused.returncode == 255 and refused.stdout == b""
        assert b"too many connections: the limit is 1 at a time" in refused.stderr
        event = ended(node, "lia", "session.rejected")
        assert event.fields["max"] == 1 and "too many connections" in str(event.fields["reason"])
        channel.sendall(b"on")
        assert channel.recv(2) == b"on"
    wait_until(lambda: not node.semaphores.held, "the place is given back")
    assert user.ssh("echo in").stdout == b"in\n"


def test_f12_a_client_that_falls_silent_gives_its_place_back(
    node: SshNode, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As when its cable is pulled: no word and no end. One that answers stays, however long it is quiet."""
    node.semaphores.most = 1
    monkeypatch.setattr(node.pool, "keep_alive_s", 1.0)
    with (
        node.user("leo").logged_in() as quiet,
        subprocess.Popen(
            node.user("lux", roles=("few",)).argv("echo up; cat"),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        ) as silent,
    ):
        try:
            assert silent.stdout is not None
            assert silent.stdout.readline() == b"up\n"
            silent.send_signal(signal.SIGSTOP)
            wait_until(lambda: not node.semaphores.held, "the place is given back")
            assert node.user("lux", roles=("few",)).ssh("echo in").stdout == b"in\n"
            channel = quiet.open_session()
            channel.exec_command("echo still")
            assert channel.recv(10) == b"still\n"
        finally:
            silent.kill()
    ended(node, "lux")


def test_a_limit_that_cannot_be_counted_refuses(node: SshNode) -> None:
    node.semaphores.problem = UnavailableError("the Auth Service is away")
    try:
        refused = node.user("lou", roles=("few",)).ssh("echo in")
        assert refused.returncode == 255
        assert b"cannot be counted while the Auth Service is not reached" in refused.stderr
        assert node.user("lee").ssh("echo in").stdout == b"in\n", "without a limit nothing is asked"
    finally:
        node.semaphores.problem = None
