"""Silent SSH connections of one source must not keep everybody else out (attack A54)."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from pkgs.common.ssh.limits import MAX_STARTING, MAX_STARTING_OF_SOURCE
from tests.integration.ssh_kit import SshNode, wait_until

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to become other users")


@pytest.fixture
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SshNode]:
    with SshNode(tmp_path_factory.mktemp("node")) as node:
        yield node


def connection(node: SshNode, source: str) -> socket.socket:
    sock = socket.create_connection(("127.0.0.1", node.port), 10, source_address=(source, 0))
    sock.settimeout(10)
    return sock


def test_a54_silent_connections_of_one_source_keep_nobody_else_out(node: SshNode) -> None:
    with ExitStack() as held:
        for _ in range(MAX_STARTING + 10):
            held.enter_context(connection(node, "127.0.0.2"))
        wait_until(lambda: node.pool.open_connections >= MAX_STARTING_OF_SOURCE, "the attacker is in")
        with connection(node, "127.0.0.3") as honest:
            assert honest.recv(100).startswith(b"SSH-2.0-")
        assert node.pool.open_connections <= MAX_STARTING_OF_SOURCE + 1
