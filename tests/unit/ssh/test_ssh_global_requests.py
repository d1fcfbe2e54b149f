"""Global requests are bounded in the life of a connection; signs of life are not."""

from __future__ import annotations

import pytest
from paramiko.message import Message
from paramiko.ssh_exception import SSHException

from pkgs.common.ssh import connection, wire
from pkgs.common.ssh.connection import _Transport


class Answers(_Transport):
    """A transport that counts what it would send."""

    def __init__(self) -> None:
        self._global_requests = 0
        self.sent = 0

    def post(self, head: bytes, data: bytes = b"") -> None:
        self.sent += 1


def request(kind: str) -> Message:
    return Message(wire.string(kind) + wire.boolean(True))


@pytest.fixture(autouse=True)
def few(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection, "MAX_GLOBAL_REQUESTS", 10)


def test_keep_alives_are_answered_for_weeks() -> None:
    transport = Answers()
    for _ in range(100):
        transport._parse_global_request(request("keepalive@openssh.com"))
    assert transport.sent == 100


def test_other_requests_are_bounded() -> None:
    transport = Answers()
    with pytest.raises(SSHException, match="too many"):
        for _ in range(100):
            transport._parse_global_request(request("no-more-sessions@openssh.com"))
    assert transport.sent == 10
