"""The client's transport: channels that come too late, or that a server opens and cannot have."""

from __future__ import annotations

import socket
from collections.abc import Iterator

import pytest
from paramiko.message import Message

from pkgs.common.ssh import wire
from pkgs.common.ssh.client.command import Capture
from pkgs.common.ssh.client.connection import Connection
from pkgs.common.ssh.client.hosts import Unchecked
from pkgs.common.ssh.client.login import Login
from pkgs.common.ssh.client.transport import Transport
from tests.harness.sshd import Authority


@pytest.fixture
def transport() -> Iterator[Transport]:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        yield Transport(ours, Unchecked(), Login("root", Authority().user()))


def test_a_channel_of_a_connection_that_is_over_is_refused_at_once(transport: Transport) -> None:
    connection = Connection(transport, transport._login, None)
    waiting, late = (Capture(lambda channel: None) for _ in range(2))
    connection.open_session(waiting)
    transport.abort()
    connection._run()
    connection.open_session(late)
    assert waiting.over.is_set() and late.over.is_set()
    assert waiting.refusal == late.refusal == (0, "the connection was lost")


def test_a66_nobody_is_asked_for_a_channel_that_cannot_be(transport: Transport) -> None:
    asked: list[str] = []
    transport.incoming = lambda kind, reader: asked.append(kind)
    for packet in (16, 32_768):
        size = wire.uint32(7) + wire.uint32(65_536) + wire.uint32(packet)
        transport._parse_channel_open(Message(wire.string(f"of {packet}") + size))
    assert asked == ["of 32768"]
