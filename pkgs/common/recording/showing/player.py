"""When to write what, while a recording plays: a model of time without a clock or a terminal.

The caller passes `now` (any monotonic seconds), does what `step` returns, and calls it again; after `Wait`
when the time has passed or a key was pressed.

    playing <--pause/resume--> paused;  seek works in both;  step returns Finished when all was shown
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from pkgs.common.recording.model import Damage, ExecResult, Item, Mark, Output, Resize, SessionMeta
from pkgs.common.recording.showing.plain import plain_line

MIN_SPEED = 0.1
MAX_SPEED = 16.0
FAR_MS = 5 * 60_000
"""A seek further ahead does not go through all that lies between."""
_WRITE_BYTES = 64 * 1024
_TICK_MS = 0.5
"""What is due in less is due: a wait too small to change a float would never end."""


@dataclass(frozen=True, slots=True)
class Write:
    """These bytes go to the terminal as they are."""

    data: bytes


@dataclass(frozen=True, slots=True)
class SetSize:
    """The recorded terminal has this size from here on."""

    cols: int
    rows: int


@dataclass(frozen=True, slots=True)
class Clear:
    """Reset the terminal: what follows begins from the start of the session."""


@dataclass(frozen=True, slots=True)
class Notice:
    """One inert line for the viewer that is not output of the session."""

    text: str


@dataclass(frozen=True, slots=True)
class Wait:
    """Nothing to do for this long; infinite while paused."""

    seconds: float


@dataclass(frozen=True, slots=True)
class Finished:
    """Everything was shown."""


Action = Write | SetSize | Clear | Notice | Wait | Finished


class Player:
    """Plays what `source(0)` yields. A seek backwards, or far ahead, calls `source` again with the moment in
    milliseconds: it answers the metadata and all that is needed to show that moment, and what follows."""

    def __init__(
        self, source: Callable[[float], Iterator[Item]], *, speed: float = 1.0, skip_idle_ms: int = 0
    ) -> None:
        self._source = source
        self._items = source(0.0)
        self._ahead: Item | None = next(self._items, None)
        self._speed = _clamped(speed)
        self._skip_idle_ms = skip_idle_ms
        self._at_ms = 0.0
        """Position in the recording at the moment `_since`."""
        self._since: float | None = None
        self._paused = False
        self._shown_ms = 0
        """Time of the newest thing shown."""
        self._clear = False

    @property
    def paused(self) -> bool:
        return self._paused

    @property
    def speed(self) -> float:
        return self._speed

    def position(self, now: float) -> float:
        """Milliseconds into the recording."""
        if self._paused or self._since is None:
            return self._at_ms
        return self._at_ms + (now - self._since) * 1000 * self._speed

    def step(self, now: float) -> Action:
        """The next thing to do at this moment."""
        if self._since is None:
            self._since = now
        if self._clear:
            self._clear = False
            return Clear()
        while self._ahead is not None:
            item = self._ahead
            if isinstance(item, SessionMeta):
                self._advance()
                return SetSize(item.cols, item.rows)
            if isinstance(item, Damage):
                self._advance()
                return Notice(f"{plain_line(item.problem)} (at byte {item.offset})")
            wait = self._until(item.ms, now)
            if wait is not None:
                return wait
            self._shown_ms = item.ms
            if isinstance(item, Output):
                return self._write(now)
            self._advance()
            if isinstance(item, Resize):
                return SetSize(item.cols, item.rows)
            if isinstance(item, Mark):
                return Notice(plain_line(f"{item.kind}: {item.text}"))
            if isinstance(item, ExecResult):
                ended = f"signal {plain_line(item.signal)}" if item.signal else f"exit status {item.status}"
                return Notice(f"the session ended with {ended}")
        self._at_ms, self._since = float(self._shown_ms), None
        return Finished()

    def pause(self, now: float) -> None:
        if not self._paused:
            self._at_ms, self._paused = self.position(now), True

    def resume(self, now: float) -> None:
        if self._paused:
            self._since, self._paused = now, False

    def toggle(self, now: float) -> None:
        """Pause or resume, as the space bar does."""
        if self._paused:
            self.resume(now)
        else:
            self.pause(now)

    def set_speed(self, speed: float, now: float) -> None:
        """From here on at this speed, within MIN_SPEED and MAX_SPEED."""
        self._at_ms, self._since = self.position(now), now
        self._speed = _clamped(speed)

    def seek(self, ms: float, now: float) -> None:
        """Go to this moment: what is needed to show it is shown at once."""
        target = max(ms, 0.0)
        if target < self._shown_ms or target > self._shown_ms + FAR_MS:
            self._items = self._source(target)
            self._ahead = next(self._items, None)
            self._shown_ms = 0
            self._clear = True
        self._at_ms, self._since = target, now

    def skip(self, delta_ms: float, now: float) -> None:
        """Go forward, or back with a negative number, from where it is now."""
        self.seek(self.position(now) + delta_ms, now)

    def _until(self, ms: int, now: float) -> Wait | None:
        position = self.position(now)
        if ms - position < _TICK_MS:
            return None
        if self._paused:
            return Wait(math.inf)
        if self._skip_idle_ms and position < ms - self._skip_idle_ms:
            position = float(ms - self._skip_idle_ms)
            self._at_ms, self._since = position, now
        return Wait((ms - position) / 1000 / self._speed)

    def _write(self, now: float) -> Write:
        """All output that is due, in one write."""
        position = self.position(now)
        data = bytearray()
        while (
            isinstance(self._ahead, Output)
            and self._ahead.ms - position < _TICK_MS
            and len(data) < _WRITE_BYTES
        ):
            self._shown_ms = self._ahead.ms
            data += self._ahead.data
            self._advance()
        return Write(bytes(data))

    def _advance(self) -> None:
        self._ahead = next(self._items, None)


def _clamped(speed: float) -> float:
    return min(max(speed, MIN_SPEED), MAX_SPEED) if math.isfinite(speed) else 1.0
