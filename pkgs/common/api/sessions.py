"""Live sessions: which there are, who is in them, and ending one."""

from __future__ import annotations

from typing import Literal

import msgspec

from pkgs.common.api.login import Done
from pkgs.common.rpc.calls import Request, StreamRequest

State = Literal["pending", "running", "paused"]
"""Waiting for company; running; held until its company is back."""


class Presence(msgspec.Struct, frozen=True, kw_only=True):
    """Somebody in a session."""

    id: str
    user: str
    cluster: str
    mode: str
    """`owner`, `observer`, `moderator` or `peer`."""
    last_active: float
    """Unix seconds of the last key, or of coming in."""


class SessionTracker(msgspec.Struct, frozen=True, kw_only=True):
    """One live session, as the agent that runs it tells of it."""

    session_id: str
    kind: Literal["ssh", "k8s", "db", "app", "desktop"] = "ssh"
    state: State
    created: float
    """Unix seconds."""
    expires: float = 0.0
    """Unix seconds; set by the Auth Service with each report."""
    host_user: str
    """Who opened it."""
    owner_cluster: str
    host_roles: list[str]
    """Names of the owner's roles: policies of those who want to join name them."""
    login: str
    cluster_name: str
    host_id: str = ""
    """Set by the Auth Service: the agent that told of it."""
    target_hostname: str
    target_address: str = ""
    reason: str = ""
    invited: list[str] = []
    initial_command: str = ""
    needs: list[str] = []
    """Who must still come before it may run."""
    participants: list[Presence] = []
    detached: bool = False
    """Its owner has left it, and it goes on."""
    proves: bool = False
    """Set by the Auth Service for who asks: as moderators they have to show that they are there."""


class ReportSessions(Request[Done], frozen=True, kw_only=True):
    """An agent tells of all sessions that live on it now. What it does not name any more has ended."""

    sessions: list[SessionTracker]
    first: bool = True
    last: bool = True
    """Of the parts that a long report comes in; it counts when the last is there."""


class SessionOrder(msgspec.Struct, frozen=True, kw_only=True):
    """What is to happen to a session, or what the Auth Service knows of it."""

    session_id: str
    what: Literal["end", "detach", "copy", "present"] = "end"
    """End it; its owner leaves it; its owner asks to copy files; or: a moderator has shown that they are
    there."""
    reason: str = ""
    by: str = ""
    """Whose order; or who is there, a user of this cluster."""
    at: float = 0.0
    """Unix seconds when they have shown it."""


PRESENCE_EVERY_S = 300.0
"""A moderator who has shown that they are there counts for so long without being asked again."""
PRESENCE_ANSWER_S = 60.0
"""And for so long after being asked."""


class Proven(msgspec.Struct, frozen=True, kw_only=True):
    """The proof is on its way to the server of the session."""

    for_s: float
    """How long it counts, at most."""


class ProvePresence(Request[Proven], frozen=True, kw_only=True):
    """The caller, a moderator of this session, is there: a one-time code of theirs that was never used. It
    goes to the Auth Service alone."""

    session_id: str
    otp: str


class SessionOrders(StreamRequest[SessionOrder], frozen=True, kw_only=True):
    """Orders for the agent that asks, as they are given; the first item, without an id, says that the
    stream stands."""


class SessionChunk(msgspec.Struct, frozen=True):
    """Part of a listing."""

    sessions: list[SessionTracker]


class ListSessions(StreamRequest[SessionChunk], frozen=True, kw_only=True):
    """The sessions that the caller may list or join, the oldest first."""

    kind: str = ""
    """Empty: all."""
    session_id: str = ""
    """Empty: all."""


class DetachSession(Request[Done], frozen=True, kw_only=True):
    """The caller leaves a session of their own on a terminal, and it goes on. Answered once the order is on
    its way."""

    session_id: str


class AskTransfer(Request[Done], frozen=True, kw_only=True):
    """The caller asks the moderators of a session of their own whether files may be copied beside it."""

    session_id: str
    reason: str = ""


class KillSession(Request[Done], frozen=True, kw_only=True):
    """End one session. Everybody in it reads the reason."""

    session_id: str
    reason: str = ""
