"""What a session that passes through the proxy asks for, before anything is decided or passed on."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from pkgs.common.ssh.channel import Channel
from pkgs.common.ssh.client.channel import ClientChannel
from pkgs.common.ssh.process.loop import Loop
from pkgs.common.ssh.process.messages import Message, Refused
from pkgs.common.ssh.requests import ChannelRequest, ExecRequest, PtyRequest, SubsystemRequest, TerminalSize
from pkgs.common.ssh.sessions.messages import OpenSession, SessionOpened
from pkgs.proxy.terminate.session import SessionRelay


class Proxy:
    """Refuses whatever is asked, and keeps it."""

    permit_pty = True

    def __init__(self) -> None:
        self.loop = Loop()
        self.asked: list[OpenSession] = []
        self.sent_on: list[bytes] = []

    def tell(self, message: Message) -> None:
        raise AssertionError(message)

    def ask_session(self, request: OpenSession) -> SessionOpened | Refused:
        self.asked.append(request)
        return Refused(text="no")

    def session_over(self, session: SessionRelay) -> None:
        """Nothing is kept."""


@pytest.fixture
def proxy() -> Iterator[Proxy]:
    yield Proxy()


def relay(proxy: Proxy) -> SessionRelay:
    made = SessionRelay(proxy, Channel(lambda head, data=b"": None, 0, 0, 1 << 20, 1 << 15))
    made.far = ClientChannel(lambda head, data=b"": proxy.sent_on.append(head + data), 0, made.far_owner)
    made.far.take_confirmation(0, 1 << 20, 1 << 15)
    return made


@pytest.mark.parametrize(
    "request_",
    [
        ExecRequest(b"rm x\0 --dry-run"),
        SubsystemRequest("sftp\0x"),
        PtyRequest("xterm\x1b]0;x\x07", TerminalSize(80, 24), b""),
    ],
)
def test_a13_what_a_server_could_read_otherwise_than_we_do_is_not_passed_on(
    proxy: Proxy, request_: ChannelRequest
) -> None:
    answers: list[bool] = []
    relay(proxy).request(request_, answers.append)
    assert answers == [False]
    assert proxy.asked == [] and proxy.sent_on == []


def test_a_command_is_shown_letter_by_letter_or_said_not_to_be(proxy: Proxy) -> None:
    for command, shown, exact in (
        (b"echo caf\xc3\xa9", "echo café", True),
        (b"echo \xff", "echo \\xff", False),
        (b"x" * 20_000, "x" * 16_384, False),
    ):
        relay(proxy).request(ExecRequest(command), lambda ok: None)
        assert (proxy.asked[-1].command, proxy.asked[-1].exact) == (shown, exact)
