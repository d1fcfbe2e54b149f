"""What a connection's process and the SSH Service say to each other about displays. Data only."""

from __future__ import annotations

from pkgs.common.ssh.process.messages import Message


class OpenDisplay(Message, frozen=True, kw_only=True):
    """A session asks for a display. Answered by a DisplayAnswer, after the audit."""


class DisplayAnswer(Message, frozen=True, kw_only=True):
    first: int = 0
    last: int = 0
    """Numbers that the display may have."""
    refusal: str = ""


class DisplayFailed(Message, frozen=True, kw_only=True):
    """It was allowed, and could not be made; or what was asked for is none. For the audit."""

    error: str


FromDisplays = OpenDisplay | DisplayFailed
