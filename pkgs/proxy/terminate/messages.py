"""What a connection's process and the proxy say to each other after the login. Data only."""

from __future__ import annotations

from typing import Literal

from pkgs.common.ssh.process.messages import Idle, Message, OfferAnswer, Refused, Signature
from pkgs.common.ssh.sessions.messages import (
    OpenSession,
    Output,
    OutputCut,
    Resized,
    SessionEnded,
    SessionOpened,
)


class LoggedIn(Message, frozen=True, kw_only=True):
    """The login is good. The server is still to be logged in to."""

    permit_pty: bool
    idle_timeout_s: float = 0.0


class GetTarget(Message, frozen=True, kw_only=True):
    """Connect to the server, and get a certificate for this key of the process's. Once."""

    public_key: str


class Target(Message, frozen=True, kw_only=True):
    """With a descriptor of the connection to the server, or without one and a text for the user."""

    certificate: str = ""
    host_authorities: list[str] = []
    cluster: str = ""
    names: list[str] = []
    checks_host_key: bool = True
    has_agent: bool = False
    """It is told which session each one is, and what the user says about its company."""
    refusal: str = ""


class NoTarget(Message, frozen=True, kw_only=True):
    """The server did not let the user in, or is not the right one. Ends the login."""

    reason: str


class OpenForward(Message, frozen=True, kw_only=True):
    channel: int
    host: str
    port: int


class ForwardAnswer(Message, frozen=True, kw_only=True):
    refusal: str = ""


class ForwardEnded(Message, frozen=True, kw_only=True):
    channel: int
    host: str
    port: int
    what: Literal["started", "stopped", "failed"]
    error: str = ""


FromProcess = (
    GetTarget
    | NoTarget
    | Idle
    | OpenSession
    | Output
    | OutputCut
    | Resized
    | SessionEnded
    | OpenForward
    | ForwardEnded
)
ToProcess = Signature | OfferAnswer | Refused | LoggedIn | Target | SessionOpened | ForwardAnswer
