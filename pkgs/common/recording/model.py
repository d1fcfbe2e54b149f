"""What a recording holds: metadata, timed events, a footer; and what a reader says about damage."""

from __future__ import annotations

import msgspec


class SessionMeta(msgspec.Struct, frozen=True, kw_only=True, tag="meta"):
    """Who did what where; the first frame."""

    session_id: str
    cluster_name: str
    user: str
    login: str
    host_id: str
    hostname: str
    started: float
    """Unix seconds."""
    cols: int = 80
    rows: int = 25
    term: str = ""
    command: str = ""
    """Empty for a shell."""
    interactive: bool = True
    kind: str = "ssh"
    participants: list[str] = []


class Output(msgspec.Struct, frozen=True, array_like=True, tag="o"):
    """Bytes the session wrote, `ms` after its start."""

    ms: int
    data: bytes


class Resize(msgspec.Struct, frozen=True, array_like=True, tag="r"):
    ms: int
    cols: int
    rows: int


class Mark(msgspec.Struct, frozen=True, array_like=True, tag="m"):
    """Something worth knowing at this moment: `join`, `leave`, `truncated`, `note`."""

    ms: int
    kind: str
    text: str


class ExecResult(msgspec.Struct, frozen=True, array_like=True, tag="x"):
    """How the command or the shell ended; `signal` is set (without SIG) when a signal ended it."""

    ms: int
    status: int
    signal: str


TimedEvent = Output | Resize | Mark | ExecResult


class Footer(msgspec.Struct, frozen=True, kw_only=True, tag="end"):
    """Written when a session ended in good order; a recording without one was cut."""

    ms: int
    ended: float
    """Unix seconds."""
    outputs: int
    output_bytes: int
    frames: int
    """All frames before this one."""
    exit_status: int | None = None
    certificate: bytes = b""
    """The host's SSH certificate, and"""
    signature: bytes = b""
    """its signature over all before (`seal`); empty when nobody could sign."""


class Damage(msgspec.Struct, frozen=True, kw_only=True, tag="damage"):
    """Bytes that are not what was written; reading goes on behind them where it can."""

    offset: int
    problem: str
    cut: bool = False
    """The file ends before its footer."""


Item = SessionMeta | Output | Resize | Mark | ExecResult | Footer | Damage
