"""What a gate connection's process and the proxy say to each other after the login. Data only."""

from __future__ import annotations

from pkgs.common.ssh.process.messages import Message, OfferAnswer, Refused, Signature


class GateOpened(Message, frozen=True, kw_only=True):
    """The login is good. There is nothing else to know: the process has no power but to ask for dials."""

    user: str


class Dial(Message, frozen=True, kw_only=True):
    """Connect this channel to a server. Answered by a Dialled, in its own time."""

    channel: int
    target: str
    cluster: str = ""


class Dialled(Message, frozen=True, kw_only=True):
    """With a descriptor of the stream, or without one and the user's text."""

    channel: int
    refusal: str = ""


ToProcess = Signature | OfferAnswer | Refused | GateOpened | Dialled
