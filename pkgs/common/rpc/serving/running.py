"""What a session keeps of one running call."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Callable

from pkgs.common.errors import ProtocolError
from pkgs.common.rpc import envelope
from pkgs.common.rpc.envelope import Header
from pkgs.common.rpc.limits import STREAM_WINDOW, UPLOAD_CHUNK_BYTES, UPLOAD_WINDOW


class Chunks(AsyncIterator[bytes]):
    """The chunks of an upload; what has been read is granted anew."""

    def __init__(self, grant: Callable[[int], None]) -> None:
        self._grant = grant
        self._waiting: deque[bytes] = deque()
        self._arrived = asyncio.Event()
        self._ended = False
        self._window = UPLOAD_WINDOW
        self._read = 0

    def put(self, chunk: bytes) -> None:
        if self._ended or self._window == 0 or len(chunk) > UPLOAD_CHUNK_BYTES:
            raise ProtocolError("an upload outside its credit")
        self._window -= 1
        self._waiting.append(chunk)
        self._arrived.set()

    def end(self) -> None:
        self._ended = True
        self._arrived.set()

    async def __anext__(self) -> bytes:
        while not self._waiting:
            if self._ended:
                raise StopAsyncIteration
            self._arrived.clear()
            await self._arrived.wait()
        chunk = self._waiting.popleft()
        self._read += 1
        if self._read * 2 >= UPLOAD_WINDOW and not self._ended:
            self._window += self._read
            self._grant(self._read)
            self._read = 0
        return chunk


class Call:
    """One running call, stream or upload."""

    __slots__ = (
        "abandoned",
        "begun",
        "chunks",
        "credit",
        "granted",
        "key",
        "late",
        "method",
        "streaming",
        "task",
        "timer",
    )

    def __init__(self, header: Header) -> None:
        self.method = header.method
        self.key = header.key
        self.streaming = header.kind != envelope.CALL
        self.credit = STREAM_WINDOW
        self.granted: asyncio.Event | None = None
        self.chunks: Chunks | None = None
        self.task: asyncio.Task[None] | None = None
        self.timer: asyncio.TimerHandle | None = None
        self.begun = False
        self.late = False
        """The deadline has passed: the peer is told so."""
        self.abandoned = False
        """Nobody waits for an answer any more."""
