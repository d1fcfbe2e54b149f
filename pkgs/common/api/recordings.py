"""Session recordings: upload by agents, listing and download by those who may."""

from __future__ import annotations

import msgspec

from pkgs.common.api.login import Done
from pkgs.common.rpc.calls import Request, StreamRequest, UploadRequest


class UploadRecording(UploadRequest[Done], frozen=True, kw_only=True):
    """The bytes of a recording file. Only by the host that ran the session. With `live` the stream is
    the session as it happens, and what arrived is kept if the agent dies."""

    session_id: str
    live: bool = False


class RecordingChunk(msgspec.Struct, frozen=True):
    data: bytes


class DownloadRecording(StreamRequest[RecordingChunk], frozen=True, kw_only=True):
    session_id: str


class RecordingInfo(msgspec.Struct, frozen=True, kw_only=True):
    session_id: str
    kind: str
    participants: list[str]
    hostname: str
    login: str
    started: float
    ended: float
    size: int
    command: str = ""


class RecordingList(msgspec.Struct, frozen=True):
    recordings: list[RecordingInfo]


class ListRecordings(StreamRequest[RecordingList], frozen=True, kw_only=True):
    """Newest first, only those the caller may play."""

    since: float = 0.0
    until: float = 0.0
    limit: int = 50


class FoundLine(msgspec.Struct, frozen=True, kw_only=True):
    """A line that was on the screen of a recorded session."""

    session_id: str
    ms: int
    """Since the start of the session."""
    text: str
    user: str
    login: str
    hostname: str
    started: float


class FoundLines(msgspec.Struct, frozen=True):
    lines: list[FoundLine]


class SearchRecordings(StreamRequest[FoundLines], frozen=True, kw_only=True):
    """Lines that contain the pattern, whatever its case, newest first; of sessions the caller may play."""

    pattern: str
    user: str = ""
    since: float = 0.0
    until: float = 0.0
    limit: int = 100


class PrunedRecordings(msgspec.Struct, frozen=True, kw_only=True):
    recordings: list[RecordingInfo]
    more: bool
    """There are more: ask again, after the last of these."""


class PruneRecordings(Request[PrunedRecordings], frozen=True, kw_only=True):
    """Delete recordings of sessions that ended before a moment, oldest first, a bounded number."""

    ended_before: float
    """Unix seconds."""
    dry_run: bool = False
