"""What was on the screen of a recording, line by line with its time: for searching."""

from __future__ import annotations

import codecs
from collections.abc import Iterable, Iterator
from typing import NamedTuple

from pkgs.common.recording.model import Item, Mark, Output
from pkgs.common.recording.showing.plain import PlainText


class ShownLine(NamedTuple):
    ms: int
    """Since the start of the session, when the line was finished."""
    text: str


class Lines:
    """Feed it a recording's items in order, then `finish`. Empty lines are left out."""

    def __init__(self) -> None:
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._plain = PlainText()
        self._ms = 0

    def feed(self, items: Iterable[Item]) -> Iterator[ShownLine]:
        for item in items:
            if isinstance(item, Output):
                self._ms = item.ms
                yield from self._shown(self._plain.feed(self._decoder.decode(item.data)))
            elif isinstance(item, Mark):
                self._ms = item.ms

    def finish(self) -> Iterator[ShownLine]:
        """The unfinished last line."""
        yield from self._shown(self._plain.feed(self._decoder.decode(b"", True)) + self._plain.finish())

    def _shown(self, text: str) -> Iterator[ShownLine]:
        for line in text.splitlines():
            if line := line.strip():
                yield ShownLine(self._ms, line)
