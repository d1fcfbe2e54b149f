"""Session recordings: upload by agents, listing and download by those who may."""

from __future__ import annotations

import msgspec

from pkgs.common.api.login import Done
from pkgs.common.rpc.calls import StreamRequest, UploadRequest


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
