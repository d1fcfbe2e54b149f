"""Terminal output as plain text: no byte that a terminal would obey gets through (attack A64).

Escape sequences are swallowed whole, whichever way they are cut by chunks. Carriage return, backspace and
erase-to-end-of-line are understood within a line, so that an edited command line reads as it was sent.
"""

from __future__ import annotations

import re
import unicodedata
from enum import Enum, auto

MAX_LINE = 4096
"""A longer line is broken here."""
MAX_SEQUENCE = 8192
"""A longer escape sequence is none: what follows is shown."""

_RUN = re.compile("[ -~]+")
_HIDDEN = frozenset({"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"})


def inert(char: str) -> bool:
    """Whether a terminal does nothing with this character but show it."""
    return " " <= char <= "~" or unicodedata.category(char) not in _HIDDEN


def plain_line(text: str) -> str:
    """One line with everything else than visible characters replaced by `?`."""
    return "".join(char if inert(char) else "?" for char in text)


class _State(Enum):
    GROUND = auto()
    ESCAPE = auto()
    CSI = auto()
    STRING = auto()
    """OSC, DCS, PM, APC, SOS: up to BEL or ESC backslash."""
    STRING_ESCAPE = auto()
    CHARSET = auto()


_STRINGS = frozenset("]PX^_")
_C1_STRINGS = frozenset("\x90\x98\x9d\x9e\x9f")
_CANCEL = frozenset("\x18\x1a")


class PlainText:
    """Feed decoded output in order; get finished lines."""

    def __init__(self) -> None:
        self._state = _State.GROUND
        self._line: list[str] = []
        self._column = 0
        self._parameters = ""
        self._length = 0
        """Of the sequence so far."""

    def feed(self, text: str) -> str:
        """The lines that `text` finishes, each with its line end."""
        done: list[str] = []
        position = 0
        while position < len(text):
            if self._state is _State.GROUND and (run := _RUN.match(text, position)):
                # The usual case, and most of the time: letters are not looked at one by one.
                self._put_run(run.group(), done)
                position = run.end()
                continue
            char = text[position]
            position += 1
            if self._state is _State.GROUND:
                self._ground(char, done)
            else:
                self._sequence(char)
        return "".join(done)

    def finish(self) -> str:
        """The unfinished last line."""
        rest, self._line, self._column = "".join(self._line).rstrip(), [], 0
        return rest + "\n" if rest else ""

    def _ground(self, char: str, done: list[str]) -> None:
        if char == "\n":
            done.append("".join(self._line).rstrip() + "\n")
            self._line, self._column = [], 0
        elif char == "\r":
            self._column = 0
        elif char == "\b":
            self._column = max(self._column - 1, 0)
        elif char == "\t":
            for _ in range(8 - self._column % 8):
                self._put(" ", done)
        elif char == "\x1b":
            self._state, self._length = _State.ESCAPE, 0
        elif char == "\x9b":
            self._state, self._length, self._parameters = _State.CSI, 0, ""
        elif char in _C1_STRINGS:
            self._state, self._length = _State.STRING, 0
        elif inert(char):
            self._put(char, done)

    def _put_run(self, run: str, done: list[str]) -> None:
        if self._column + len(run) > MAX_LINE:
            for char in run:
                self._put(char, done)
            return
        self._line[self._column : self._column + len(run)] = run
        self._column += len(run)

    def _put(self, char: str, done: list[str]) -> None:
        if self._column >= MAX_LINE:
            done.append("".join(self._line) + "\n")
            self._line, self._column = [], 0
        if self._column < len(self._line):
            self._line[self._column] = char
        else:
            self._line.append(char)
        self._column += 1

    def _sequence(self, char: str) -> None:
        self._length += 1
        # An unfinished sequence must not hide the rest of the session from its reader: hence the length.
        ended = self._state is _State.STRING_ESCAPE and char == "\\"
        if char in _CANCEL or ended or self._length > MAX_SEQUENCE:
            self._state = _State.GROUND
        elif self._state is _State.STRING:
            if char in "\x07\x9c":
                self._state = _State.GROUND
            elif char == "\x1b":
                self._state = _State.STRING_ESCAPE
        elif char == "\x1b":
            self._state = _State.ESCAPE
        elif self._state in (_State.ESCAPE, _State.STRING_ESCAPE):
            self._escape(char)
        elif self._state is _State.CSI:
            self._csi(char)
        else:
            self._state = _State.GROUND

    def _escape(self, char: str) -> None:
        if char == "[":
            self._state, self._parameters = _State.CSI, ""
        elif char in _STRINGS:
            self._state = _State.STRING
        elif " " <= char <= "/":
            self._state = _State.CHARSET
        else:
            self._state = _State.GROUND

    def _csi(self, char: str) -> None:
        if "@" <= char <= "~":
            self._state = _State.GROUND
            if char == "K" and self._parameters in ("", "0"):
                del self._line[self._column :]
        elif len(self._parameters) < 32:
            self._parameters += char
