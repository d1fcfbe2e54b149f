"""Audit events: delivering, searching, following, verifying."""

from __future__ import annotations

from typing import Literal

import msgspec

from pkgs.common.api.login import Done
from pkgs.common.events.types import Event
from pkgs.common.rpc.calls import Request, StreamRequest


class EmitEvents(Request[Done], frozen=True, kw_only=True):
    """A host delivers its events, in order; a repeated uid is ignored. The host id in the events is
    overwritten by the caller's own."""

    events: list[Event]


class StoredEvent(msgspec.Struct, frozen=True, kw_only=True):
    seq: int
    event: Event
    hash: str
    """Hex SHA-256 over the previous hash and this event's canonical bytes."""


class EventChunk(msgspec.Struct, frozen=True):
    events: list[StoredEvent]


class SearchEvents(StreamRequest[EventChunk], frozen=True, kw_only=True):
    """By time, type and user; with `follow` the stream goes on with new events as they are stored."""

    since: float = 0.0
    until: float = 0.0
    """Unix seconds; 0: open."""
    types: list[str] = []
    user: str = ""
    session_id: str = ""
    limit: int = 500
    order: Literal["asc", "desc"] = "asc"
    follow: bool = False


class AuditVerdict(msgspec.Struct, frozen=True, kw_only=True):
    ok: bool
    events: int
    first_bad_seq: int = 0
    problem: str = ""
    head: str = ""
    """Hex hash of the newest event: note it down to notice a rewritten history."""


class VerifyAudit(Request[AuditVerdict], frozen=True, kw_only=True):
    """Walk the whole chain."""
