"""What a connection's process and the SSH Service say to each other about unix sockets. Data only."""

from __future__ import annotations

from typing import Literal

from pkgs.common.ssh.process.messages import Message


class OpenSocket(Message, frozen=True, kw_only=True):
    """A channel asks for a unix socket. Answered by a SocketAnswer."""

    channel: int
    path: str
    """As the client wrote it; shown, when it is none."""
    real: str = ""
    """What it is called without links."""
    problem: str = ""
    """Why it leads nowhere; then there is no `real`."""


class SocketStream(Message, frozen=True, kw_only=True):
    """How the use of a socket began or ended; for the audit."""

    channel: int
    what: Literal["started", "stopped", "failed"]
    error: str = ""


class ListenOnSocket(Message, frozen=True, kw_only=True):
    """A client wants connections to a socket that is to be made here. Answered by a SocketAnswer, after the
    audit."""

    path: str
    real: str = ""
    problem: str = ""
    """As in `OpenSocket`."""


class SocketClosed(Message, frozen=True, kw_only=True):
    """It is listened on no more, or could not be made."""

    real: str
    error: str = ""


class SocketAnswer(Message, frozen=True, kw_only=True):
    refusal: str = ""
    unreachable: bool = False
    """It is not forbidden, but leads nowhere."""


FromSockets = OpenSocket | SocketStream | ListenOnSocket | SocketClosed
