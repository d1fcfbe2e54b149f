"""The client's input on its way into a command: written at once where it fits, else kept in order.

`write` runs in the connection's reading thread, everything else in the loop's. What is kept is bounded by
the channel's window: only what was written counts as consumed.
"""

from __future__ import annotations

import os
import threading
from collections import deque
from collections.abc import Callable


class Stdin:
    def __init__(self, consumed: Callable[[int], None]) -> None:
        self._consumed = consumed
        self._lock = threading.Lock()
        self._kept: deque[bytes] = deque()
        self._others: deque[bytes] = deque()
        self.fd = -1

    @property
    def pending(self) -> bool:
        return bool(self._kept or self._others)

    def attach(self, fd: int) -> None:
        """The command is there; what came before it goes first, by `flush`."""
        with self._lock:
            self.fd = fd

    def detach(self) -> int:
        """Write nothing more; the descriptor, or -1. What is kept goes nowhere."""
        with self._lock:
            fd, self.fd = self.fd, -1
            self._kept.clear()
            self._others.clear()
        return fd

    def inject(self, data: bytes, limit: int) -> None:
        """Input of somebody else than the client, which its window does not count; `flush` must be called.
        What is over the limit is lost, as on a terminal that nobody reads."""
        with self._lock:
            if sum(map(len, self._others)) + len(data) <= limit:
                self._others.append(data)

    def write(self, data: bytes) -> bool:
        """Take data. False when `flush` must be called once the descriptor can be written."""
        with self._lock:
            if not self._kept and self.fd >= 0:
                # The usual case: no other thread wakes up for it.
                written = self._push(data)
                if written == len(data):
                    return True
                data = data[written:]
            self._kept.append(data)
            return self.fd < 0

    def flush(self) -> None:
        with self._lock:
            while self._kept and self.fd >= 0:
                head = self._kept[0]
                written = self._push(head)
                if written < len(head):
                    self._kept[0] = head[written:]
                    return
                self._kept.popleft()
            while self._others and self.fd >= 0:
                head = self._others[0]
                written = self._write(head)
                if written < len(head):
                    self._others[0] = head[written:]
                    return
                self._others.popleft()

    def _push(self, data: bytes) -> int:
        written = self._write(data)
        self._consumed(written)
        return written

    def _write(self, data: bytes) -> int:
        try:
            return os.write(self.fd, data)
        except BlockingIOError:
            return 0
        except OSError:
            return len(data)  # the command reads no more; its input goes nowhere
