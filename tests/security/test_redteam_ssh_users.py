"""A user with a good certificate must not take all that a node or the proxy has (A54, A66)."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

import paramiko
import pytest

from pkgs.agents.ssh.connection import SshConnection
from pkgs.common.errors import ProtocolError
from pkgs.common.ssh.limits import MAX_SESSIONS
from pkgs.common.ssh.sessions.messages import OpenSession
from pkgs.proxy.sshgate import gate as gate_room
from tests.integration.ssh_kit import SshNode, User, wait_until
from tests.integration.test_sshgate import Gate

pytestmark = [
    pytest.mark.needs("ssh"),
    pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to become other users"),
]


@pytest.fixture
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SshNode]:
    with SshNode(tmp_path_factory.mktemp("node")) as node:
        yield node


def login_at(gate: Gate, user: User) -> paramiko.Transport:
    transport = paramiko.Transport(("127.0.0.1", gate.port))
    transport.start_client(timeout=20)
    try:
        transport.auth_publickey("root", user.key())
    except paramiko.SSHException:
        transport.close()
        raise
    return transport


def test_a54_one_user_does_not_fill_the_proxy_with_processes(
    node: SshNode, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gate_room, "MAX_CONNECTIONS_OF_USER", 3)
    gate = Gate(node)
    try:
        with ExitStack() as held:
            greedy = node.user("greedy")
            first = [held.enter_context(login_at(gate, greedy)) for _ in range(3)]
            with pytest.raises(paramiko.AuthenticationException):
                login_at(gate, node.user("greedy"))
            login_at(gate, node.user("modest")).close()
            first[0].close()
            again: list[paramiko.Transport] = []

            def place() -> bool:
                try:
                    again.append(login_at(gate, greedy))
                except paramiko.SSHException:
                    return False
                return True

            wait_until(place, "a place that was given back")
            again[0].close()
    finally:
        gate.close()


def _connections(node: SshNode) -> list[SshConnection]:
    return [one for one in tuple(node.reviews._live) if isinstance(one, SshConnection)]


def test_a66_a_connections_process_does_not_open_sessions_without_end(node: SshNode) -> None:
    """Were it taken over by its user, it could ask the service for what costs the service files."""
    with node.user("mal").logged_in() as transport:
        channel = transport.open_session()
        channel.exec_command("read x")
        wait_until(lambda: any(one._sessions for one in _connections(node)), "the session")
        [connection] = [one for one in _connections(node) if one._sessions]

        async def answer(message: Any, fds: tuple[int, ...] = ()) -> None:
            return

        async def flood() -> int:
            for number in range(1000, 1000 + 10 * MAX_SESSIONS):
                try:
                    await connection.handle(OpenSession(channel=number, kind="shell"), answer)
                except ProtocolError:
                    return len(connection._sessions)
            return -1

        opened = asyncio.run_coroutine_threadsafe(flood(), node.loop).result(30)
        assert opened == MAX_SESSIONS
        channel.close()
