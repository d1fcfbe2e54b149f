"""What a connection's process and its service say to each other about sessions. Data only."""

from __future__ import annotations

from typing import Literal

from pkgs.common.ssh.process.messages import Message

RECORDED_AS = "TELEPORT_SESSION_RECORDED_AS"
"""Variable by which a proxy that keeps a session's record tells the agent its id."""
SessionKind = Literal["shell", "exec", "subsystem"]


class OpenSession(Message, frozen=True, kw_only=True):
    """A channel asks for a shell, a command or a subsystem. Decided afresh each time."""

    channel: int
    kind: SessionKind
    command: str = ""
    exact: bool = True
    """`command` is all that was asked for, letter by letter: not cut, nothing replaced."""
    pty: bool = False
    columns: int = 0
    rows: int = 0
    term: str = ""
    reason: str = ""
    """Why, for those who are asked to join."""
    invited: list[str] = []
    """Users who are asked to join."""
    verbose_demands: bool = False
    """Tell who is waited for, not only that somebody is."""
    recorded_as: str = ""
    """The session's id, where the proxy keeps its record."""


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
    flags: str = ""
    """Of an open: read, write, create..."""
    attributes: dict[str, str] = {}
    """Of a setstat: what was to be set."""


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
