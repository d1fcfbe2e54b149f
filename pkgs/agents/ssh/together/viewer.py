"""Output on its way to one visitor: bounded, in order, never in the way of the session it comes from.

    show -> queue (VIEWER_QUEUE) -> push, while there is credit (VIEWER_CREDIT) -> `taken` gives credit back

A visitor who is too slow for the queue skips to the newest output and reads that something is missing.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable

from pkgs.agents.ssh.together.limits import OUTPUT_CHUNK, RETRY_S, VIEWER_CREDIT, VIEWER_QUEUE
from pkgs.agents.ssh.together.messages import JoinOutput, JoinOver
from pkgs.common.ssh.process.messages import Message

Push = Callable[[Message], bool]
"""Give a connection's process a message; False when it cannot take one now."""


class Viewer:
    def __init__(self, channel: int, push: Push, newest: Callable[[], bytes]) -> None:
        """`newest` is what is shown in place of output that was skipped."""
        self.channel = channel
        self._push = push
        self._newest = newest
        self._queue: deque[bytes] = deque()
        self._queued = 0
        self._credit = VIEWER_CREDIT
        self._retry: asyncio.TimerHandle | None = None
        self._last: JoinOver | None = None
        self._over = False

    @property
    def queued(self) -> int:
        """Bytes that wait here; never more than the limit."""
        return self._queued

    def show(self, data: bytes) -> None:
        if self._last is not None or self._over or not data:
            return
        if self._queued + len(data) > VIEWER_QUEUE:
            self._skip(len(data))
        else:
            self._add(data)
        self._flush()

    def taken(self, size: int) -> None:
        """The visitor's client took so much. What was never sent gives no credit."""
        self._credit = min(self._credit + max(size, 0), VIEWER_CREDIT)
        self._flush()

    def close(self, text: str, status: int = 0) -> None:
        """Nothing more follows but what waits and this."""
        if self._last is None and not self._over:
            self._last = JoinOver(channel=self.channel, text=text, status=status)
            self._flush()

    def stop(self) -> None:
        """The visitor is gone: nothing is sent any more."""
        self._over = True
        self._queue.clear()
        self._queued = 0
        if self._retry is not None:
            self._retry.cancel()

    def _add(self, data: bytes) -> None:
        self._queue.append(data)
        self._queued += len(data)

    def _skip(self, more: int) -> None:
        lost = self._queued + more
        self._queue.clear()
        self._queued = 0
        self._add(f"\r\n[{lost} bytes were skipped: this client reads too slowly]\r\n".encode())
        self._add(self._newest())

    def _flush(self) -> None:
        while self._queue and self._credit > 0:
            head = self._queue[0]
            piece = head[: min(self._credit, OUTPUT_CHUNK)]
            if not self._push(JoinOutput(channel=self.channel, data=piece)):
                self._again()
                return
            self._credit -= len(piece)
            self._queued -= len(piece)
            if len(piece) < len(head):
                self._queue[0] = head[len(piece) :]
            else:
                self._queue.popleft()
        if self._last is not None and not self._queue and not self._over:
            self._over = self._push(self._last)
            if not self._over:
                self._again()

    def _again(self) -> None:
        if self._retry is None or self._retry.cancelled():
            self._retry = asyncio.get_running_loop().call_later(RETRY_S, self._retried)

    def _retried(self) -> None:
        self._retry = None
        self._flush()
