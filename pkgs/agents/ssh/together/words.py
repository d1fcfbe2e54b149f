"""What people in a session read, and the newest of what its terminal showed."""

from __future__ import annotations

from collections.abc import Iterable

from pkgs.agents.ssh.together.limits import MAX_REASON, REPLAY
from pkgs.common.output.sanitize import inert

_ENTER, _LEAVE = b"\x1b[?1049h", b"\x1b[?1049l"
"""Programs that paint a whole screen switch to a second one, and back at their end."""


def line(text: str) -> str:
    """One line in the stream of a terminal, told apart from what the session prints. `text` is of ours, or
    made inert."""
    return f"\r\nTeleport > {text}\r\n"


def names(texts: Iterable[str]) -> str:
    """Several texts from roles, inert (attack A64)."""
    return "; ".join(map(inert, texts))


def reason_of(text: str) -> str:
    """A reason that somebody gave, inert and cut (attack A64)."""
    return inert(text[:MAX_REASON])


class Replay:
    """The newest output, for whoever comes later."""

    def __init__(self) -> None:
        self._kept = bytearray()
        self._end = b""
        self.full_screen = False
        """Whether a program has the whole screen: the newest output alone would not show it."""

    def add(self, data: bytes) -> None:
        self._kept += data
        if len(self._kept) > 2 * REPLAY:
            del self._kept[:-REPLAY]
        # An order may be cut in two by the pieces that output comes in.
        seen = self._end + data
        enter, leave = seen.rfind(_ENTER), seen.rfind(_LEAVE)
        if enter != leave:
            self.full_screen = enter > leave
        self._end = seen[-(len(_ENTER) - 1) :]

    def newest(self) -> bytes:
        """At most REPLAY bytes, from the beginning of a line where there is one."""
        data = bytes(self._kept[-REPLAY:])
        if len(self._kept) > REPLAY:
            data = data[data.find(b"\n") + 1 :]
        return data
