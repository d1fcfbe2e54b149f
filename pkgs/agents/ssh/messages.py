"""What a connection's process and the SSH Service say to each other after the login. Data only."""

from __future__ import annotations

from typing import Literal

from pkgs.agents.ssh.sockets.messages import FromSockets, SocketAnswer
from pkgs.agents.ssh.together.messages import FromTogether, ToTogether
from pkgs.agents.ssh.x11.messages import DisplayAnswer, FromDisplays
from pkgs.common.ssh.process.messages import Idle, Message, OfferAnswer, Refused, Signature
from pkgs.common.ssh.sessions.messages import (
    FileOperation,
    FileSummary,
    OpenSession,
    Output,
    OutputCut,
    Resized,
    SessionEnded,
    SessionOpened,
)


class Account(Message, frozen=True, kw_only=True):
    """The login is good: become this user of the host, with these facts for the environment."""

    login: str
    user: str
    cluster: str
    host_id: str
    proxy_addr: str
    permit_pty: bool
    permit_user_env: bool
    permit_file_copy: bool
    single_user: bool
    """The service is not root: the process stays who it is, and the login must be that user."""
    visits: bool = False
    """Only to join sessions: there is no login, and the process becomes nobody."""
    alive_every_s: float = 0.0
    """Ask for signs of life so often, whatever holds for other connections; 0: as for all."""
    idle_timeout_s: float = 0.0
    """End the connection when nothing moved for this long; 0: never."""
    pam_service: str = ""
    """Empty: PAM is not asked."""
    pam_facts: dict[str, str] = {}
    max_processes: int = 0
    """Of the login's user on this host, unless it is root; 0: what the service itself has."""


class NoAccount(Message, frozen=True, kw_only=True):
    """The host does not know that login, or may not become it. Ends the login."""

    reason: str


class OnTerminal(Message, frozen=True, kw_only=True):
    """What a session runs has a terminal; for the host's records of logins."""

    channel: int
    terminal: str
    pid: int


class OpenForward(Message, frozen=True, kw_only=True):
    """A channel asks for a TCP connection to somewhere. Answered by a ForwardAnswer."""

    channel: int
    host: str
    """As the client wrote it."""
    port: int
    addresses: list[str]
    """What the host is called; none when it is not known."""


class ForwardAnswer(Message, frozen=True, kw_only=True):
    """Which of the addresses may be connected to, or why none."""

    addresses: list[str] = []
    refusal: str = ""
    unreachable: bool = False
    """It is not forbidden, but leads nowhere."""


class ForwardEnded(Message, frozen=True, kw_only=True):
    """How a forwarding that was allowed began or ended; for the audit."""

    channel: int
    what: Literal["started", "stopped", "failed"]
    error: str = ""


class OpenListener(Message, frozen=True, kw_only=True):
    """A client wants connections to a port of this host, which is bound and not yet listened on. Answered by
    a ListenerAnswer, after the audit."""

    host: str
    """As the client wrote it."""
    port: int


class ListenerAnswer(Message, frozen=True, kw_only=True):
    refusal: str = ""


class ListenerClosed(Message, frozen=True, kw_only=True):
    """It is listened on no more, or could not be bound."""

    host: str
    port: int
    error: str = ""


class OpenAgent(Message, frozen=True, kw_only=True):
    """A session asks for the client's authentication agent. Answered by an AgentAnswer, after the audit."""


class AgentAnswer(Message, frozen=True, kw_only=True):
    refusal: str = ""


FromProcess = (
    NoAccount
    | Idle
    | OnTerminal
    | OpenSession
    | Output
    | OutputCut
    | Resized
    | FileOperation
    | FileSummary
    | SessionEnded
    | OpenForward
    | ForwardEnded
    | OpenListener
    | ListenerClosed
    | OpenAgent
    | FromSockets
    | FromDisplays
    | FromTogether
)
ToProcess = (
    Signature
    | OfferAnswer
    | Refused
    | Account
    | SessionOpened
    | ForwardAnswer
    | ListenerAnswer
    | AgentAnswer
    | SocketAnswer
    | DisplayAnswer
    | ToTogether
)
