"""What a conversation makes of one side's bytes, as a step."""

from __future__ import annotations

from pkgs.agents.db.engine import Fact, Step


class Parts:
    """Puts a step together: the bytes without some, and with some of ours. From the start to the end."""

    def __init__(self, data: memoryview) -> None:
        self._data = data
        self._start = 0
        self._parts: list[bytes | memoryview] = []
        self.facts: list[Fact] = []
        self.back = b""

    def leave(self, start: int, end: int) -> None:
        """These bytes don't go onward."""
        if start > self._start:
            self._parts.append(self._data[self._start : start])
        self._start = end

    def insert(self, pos: int, ours: bytes) -> None:
        """Ours go onward before what begins there."""
        self.leave(pos, pos)
        self._parts.append(ours)

    def made(self, *, over: bool = False) -> Step:
        """`over`: what was not reached goes nowhere, and the session ends."""
        if over:
            onward: bytes | memoryview = b"".join(self._parts)
        elif not self._parts:
            onward = self._data[self._start :]
        else:
            onward = b"".join((*self._parts, self._data[self._start :]))
        return Step(onward, self.back, self.facts, over)
