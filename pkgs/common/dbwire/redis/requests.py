"""Commands of a client: arrays of strings, or lines of text, in bytes cut anywhere.

Of long arguments the beginning is kept, of many the first; the rest is only counted."""

from __future__ import annotations

import re

from pkgs.common.dbwire.redis.limits import ARGUMENTS_MAX, HEADER_MAX, INLINE_MAX, LENGTH_MAX
from pkgs.common.errors import ProtocolError

_ARRAY, _STRING = 0x2A, 0x24
_NONE: frozenset[int] = frozenset()
_COUNT = re.compile(rb"0|-1|[1-9][0-9]*")
_SMALL = {b"%d" % number: number for number in range(512)}
"""Most lengths, looked up: that is twice as fast."""


class Requests:
    """Whoever drives it calls `read` until `whole`, then `next`, and hands in again what `read` left."""

    __slots__ = ("_each", "_left", "_missing", "_most", "arguments", "cut", "line", "whole")

    def __init__(self, most: int, each: int) -> None:
        """Keep so many arguments, and so many bytes of each."""
        self._most = most
        self._each = each
        self.next()

    def next(self) -> None:
        """Forget the command; another one follows."""
        self.arguments: list[bytes] = []
        """As far as they are there and kept; the last may go on."""
        self.cut: frozenset[int] = _NONE
        """Those of which only the beginning is kept; -1: some are not kept at all."""
        self.line: list[bytes] | None = None
        """All arguments of a command that was a line of text."""
        self.whole = False
        self._missing = 0
        self._left = 0

    @property
    def fresh(self) -> bool:
        """Nothing of a command has been read."""
        return not self._missing and not self.whole

    @property
    def complete(self) -> list[bytes]:
        """Arguments that don't go on."""
        return self.arguments[:-1] if self._left else self.arguments

    def read(self, data: bytes, pos: int) -> int:
        """Read on from `pos`; where it stopped: after the command, or before what is not all there. Raises
        ProtocolError."""
        if not self._missing:
            pos = self._begin(data, pos)
            if not self._missing:
                return pos
        size, each, arguments = len(data), self._each, self.arguments
        while True:
            if self._left:
                pos = self._body(data, pos)
                if self._left:
                    return pos
            else:
                end = data.find(b"\r\n", pos, pos + HEADER_MAX)
                if end < 0:
                    return self._more(data, pos)
                if data[pos] != _STRING:
                    raise ProtocolError("a Redis command has an argument that is no string")
                length = _SMALL.get(data[pos + 1 : end], -1)
                if length < 0:
                    length = _number(data[pos + 1 : end], LENGTH_MAX)
                if length < 0:
                    raise ProtocolError("a Redis command has an argument without length")
                start = end + 2
                pos = start + length + 2
                if pos > size:
                    # In parts, with the line end that follows.
                    self._left = length + 2
                    self._keep(b"", 0)
                    pos = start
                    continue
                if data[pos - 2 : pos] != b"\r\n":
                    raise ProtocolError("a Redis command has an argument of another length than it says")
                if length <= each and len(arguments) < self._most:
                    arguments.append(data[start : pos - 2])
                else:
                    self._keep(data[start : start + each], length)
            self._missing -= 1
            if not self._missing:
                self.whole = True
                return pos

    def _begin(self, data: bytes, pos: int) -> int:
        if pos == len(data):
            return pos
        if data[pos] != _ARRAY:
            return self._text(data, pos)
        end = data.find(b"\r\n", pos, pos + HEADER_MAX)
        if end < 0:
            return self._more(data, pos)
        # A command without arguments is none: servers go over it.
        count = _SMALL.get(data[pos + 1 : end], -1)
        self._missing = count if count >= 0 else max(0, _number(data[pos + 1 : end], ARGUMENTS_MAX))
        self.whole = not self._missing
        return end + 2

    def _text(self, data: bytes, pos: int) -> int:
        end = data.find(b"\n", pos, pos + INLINE_MAX)
        if end < 0:
            if len(data) - pos >= INLINE_MAX:
                raise ProtocolError("a Redis command that is a line is too long")
            return pos
        self.line = split_line(data[pos:end].removesuffix(b"\r"))
        for argument in self.line:
            self._keep(argument[: self._each], len(argument))
        self.whole = True
        return end + 1

    def _more(self, data: bytes, pos: int) -> int:
        if len(data) - pos >= HEADER_MAX:
            raise ProtocolError("a Redis command has a header that does not end")
        return pos

    def _keep(self, beginning: bytes, length: int) -> None:
        if len(self.arguments) == self._most:
            self.cut |= {-1}
            return
        if length > self._each:
            self.cut |= {len(self.arguments)}
        self.arguments.append(beginning)

    def _body(self, data: bytes, pos: int) -> int:
        """The argument under way, in parts; its line end is taken whole."""
        if self._left > 2:
            count = min(self._left - 2, len(data) - pos)
            if -1 not in self.cut:
                last = self.arguments[-1]
                room = self._each - len(last)
                self.arguments[-1] = last + data[pos : pos + min(count, room)]
                if count > room:
                    self.cut |= {len(self.arguments) - 1}
            self._left -= count
            pos += count
        if self._left == 2 and len(data) - pos >= 2:
            if data[pos : pos + 2] != b"\r\n":
                raise ProtocolError("a Redis command has an argument of another length than it says")
            self._left = 0
            pos += 2
        return pos


def _number(text: bytes, most: int) -> int:
    if not _COUNT.fullmatch(text) or (number := int(text)) > most:
        raise ProtocolError("a Redis command has a length that is none")
    return number


_ESCAPES = {b"n": b"\n", b"r": b"\r", b"t": b"\t", b"b": b"\b", b"a": b"\a"}
_WORD = re.compile(
    rb"""[\s\0]*(?:(?P<double>"(?:[^"\\]|\\.)*")|(?P<single>'(?:[^'\\]|\\.)*')|(?P<plain>[^\s"'\0]+))(?=[\s\0]|\Z)""",
    re.S,
)


def split_line(line: bytes) -> list[bytes]:
    """The arguments of a command that is a line of text. Quotes only around whole arguments: servers take
    more, and what they would take differently is refused here. Raises ProtocolError."""
    found = []
    pos, end = 0, len(line.rstrip(b" \t\r\n\v\f\0"))
    while pos < end:
        word = _WORD.match(line, pos, end)
        if word is None:
            raise ProtocolError("a Redis command that is a line has quotes that do not match")
        if word["plain"] is not None:
            found.append(word["plain"])
        elif word["single"] is not None:
            found.append(word["single"][1:-1].replace(b"\\'", b"'"))
        else:
            found.append(re.sub(rb"\\(x[0-9a-fA-F]{2}|.)", _unescape, word["double"][1:-1], flags=re.S))
        pos = word.end()
    return found


def _unescape(escape: re.Match[bytes]) -> bytes:
    text = escape[1]
    if len(text) == 3:
        return bytes((int(text[1:], 16),))
    return _ESCAPES.get(text, text)
