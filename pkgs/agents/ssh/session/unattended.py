"""The channel of a session whose owner has left it: takes all output at once, and hears nothing."""

from __future__ import annotations

from pkgs.common.ssh.channel import Channel
from pkgs.common.ssh.limits import CHUNK


class Unattended(Channel):
    """Stands where the client's channel was, under its number. What is shown to visitors and recorded goes
    another way."""

    def __init__(self, number: int) -> None:
        super().__init__(lambda head, data=b"": None, number, 0, 0, CHUNK)

    def send(self, data: bytes, *, stderr: bool = False) -> int:
        return len(data)

    def room(self) -> int:
        return CHUNK


def leave(channel: Channel, text: str) -> Unattended:
    """Let the client go as if what it started had ended well; from now on it has no part in the session."""
    channel.send(text.encode())
    channel.owner = None
    channel.exit_status(0)
    channel.send_eof()
    channel.close()
    return Unattended(channel.number)
