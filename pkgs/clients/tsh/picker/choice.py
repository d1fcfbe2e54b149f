"""The state of a choice: keys in, lines to show out. No I/O, so that a test is a list of keys.

choosing --enter--> taken(index)      choosing --ctrl-C, ctrl-D, ctrl-G--> left
"""

from __future__ import annotations

import codecs
import re

from pkgs.common.output.sanitize import inert
from pkgs.common.output.table import display_width

MAX_FILTER_CHARS = 200
MAX_PENDING_CHARS = 32
"""An escape sequence that is longer is no key; it is dropped."""

_KEY = re.compile(r"\x1b\[[0-9;]*[A-Za-z~]|\x1bO[A-Za-z]|[^\x1b]|\x1b(?=[^\[O])", re.DOTALL)
_UP, _DOWN = ("\x1b[A", "\x1bOA", "\x10"), ("\x1b[B", "\x1bOB", "\x0e", "\t")
_LEAVE = ("\x03", "\x04", "\x07")


class Choice:
    """Lines, a filter, the marked line. `taken` is the index of the line chosen, `left` says that none is."""

    def __init__(self, lines: list[str]) -> None:
        self._lines = [inert(line) for line in lines]
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._pending = ""
        self._filter = ""
        self._at = 0
        self._found = list(range(len(lines)))
        self.taken: int | None = None
        self.left = False

    def feed(self, data: bytes) -> None:
        """What was typed; keys behind the one that ends it do not count."""
        text = self._pending + self._decoder.decode(data)
        end = 0
        while match := _KEY.match(text, end):
            end = match.end()
            self._key(match.group())
            if self.left or self.taken is not None:
                return
        rest = text[end:]
        self._pending = rest if len(rest) <= MAX_PENDING_CHARS else ""

    def frame(self, columns: int, rows: int) -> list[str]:
        """The prompt, then as many lines as fit around the marked one; none is as wide as the terminal."""
        room = max(1, rows - 2)
        first = max(0, min(self._at - room // 2, len(self._found) - room))
        shown = [f"{len(self._found)}/{len(self._lines)} > {self._filter}"]
        for place in range(first, min(first + room, len(self._found))):
            mark = "> " if place == self._at else "  "
            shown.append(mark + self._lines[self._found[place]])
        return [_cut(line, columns - 1) for line in shown]

    def _key(self, key: str) -> None:
        if key in _LEAVE:
            self.left = True
        elif key in ("\r", "\n"):
            if self._found:
                self.taken = self._found[self._at]
        elif key in _UP:
            self._at = max(0, self._at - 1)
        elif key in _DOWN:
            self._at = min(max(0, len(self._found) - 1), self._at + 1)
        elif key in ("\x7f", "\x08"):
            self._narrow(self._filter[:-1])
        elif key == "\x15":
            self._narrow("")
        elif key.isprintable() and len(self._filter) < MAX_FILTER_CHARS:
            self._narrow(self._filter + key)

    def _narrow(self, text: str) -> None:
        self._filter, self._at = text, 0
        words = text.casefold().split()
        ranked = [(_distance(words, line.casefold()), index) for index, line in enumerate(self._lines)]
        self._found = [index for distance, index in sorted(r for r in ranked if r[0] is not None)]


def _distance(words: list[str], line: str) -> int | None:
    """How far the words are from the line: where they stand in it, far more for one whose letters stand in it
    in order but apart; None when one does not match at all."""
    total = 0
    for word in words:
        at = line.find(word)
        if at < 0:
            letters = iter(line)
            if not all(letter in letters for letter in word):
                return None
            at = 10_000
        total += at
    return total


def _cut(line: str, columns: int) -> str:
    while display_width(line) > max(1, columns):
        line = line[:-1]
    return line
