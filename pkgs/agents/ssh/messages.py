"""What a connection's process and the SSH Service say to each other after the login. Data only."""

from __future__ import annotations

from typing import Literal

from pkgs.common.ssh.process.messages import Message, OfferAnswer, Refused, Signature

SessionKind = Literal["shell", "exec", "subsystem"]


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
    idle_timeout_s: float = 0.0
    """End the connection when nothing moved for this long; 0: never."""


class NoAccount(Message, frozen=True, kw_only=True):
    """The host does not know that login, or may not become it. Ends the login."""

    reason: str


class OpenSession(Message, frozen=True, kw_only=True):
    """A channel asks for a shell, a command or a subsystem. Decided afresh each time."""

    channel: int
    kind: SessionKind
    command: str = ""
    pty: bool = False
    columns: int = 0
    rows: int = 0
    term: str = ""


class SessionOpened(Message, frozen=True, kw_only=True):
    session_id: str
    forced_command: str = ""
    """Run this instead, whatever was asked."""
    record: Literal["all", "head", "none"] = "none"
    """Which output to send: everything, the first `record_limit` bytes, nothing."""
    record_limit: int = 0


class Output(Message, frozen=True, kw_only=True):
    """Output of a session, for its recording."""

    channel: int
    data: bytes


class OutputCut(Message, frozen=True, kw_only=True):
    """More output follows that is not sent: the limit is reached."""

    channel: int


class Resized(Message, frozen=True, kw_only=True):
    channel: int
    columns: int
    rows: int


class FileOperation(Message, frozen=True, kw_only=True):
    """One operation of a file transfer, done or failed."""

    channel: int
    operation: str
    """open, setstat, opendir, readdir, remove, mkdir, rmdir, rename, symlink, link."""
    path: str
    target_path: str = ""
    error: str = ""


class FileSummary(Message, frozen=True, kw_only=True):
    """A file was closed: what went through it."""

    channel: int
    path: str
    read: int
    written: int


class SessionEnded(Message, frozen=True, kw_only=True):
    channel: int
    status: int
    """Exit status; 255 with a signal or when the command could not be run."""
    signal: str = ""
    error: str = ""
    received: int = 0
    sent: int = 0


class OpenForward(Message, frozen=True, kw_only=True):
    """A channel asks for a TCP connection to somewhere. Answered by a ForwardAnswer, in its own time."""

    channel: int
    host: str
    port: int


class ForwardAnswer(Message, frozen=True, kw_only=True):
    """Whether the roles allow forwarding; where to is still checked by address."""

    channel: int
    refusal: str = ""


class ForwardEnded(Message, frozen=True, kw_only=True):
    """How a forwarding began or ended; for the audit."""

    host: str
    port: int
    what: Literal["started", "stopped", "failed"]
    error: str = ""


FromProcess = (
    NoAccount
    | OpenSession
    | Output
    | OutputCut
    | Resized
    | FileOperation
    | FileSummary
    | SessionEnded
    | OpenForward
    | ForwardEnded
)
ToProcess = Signature | OfferAnswer | Refused | Account | SessionOpened | ForwardAnswer
