"""Replies of a server, RESP2 and RESP3: where they begin and end, in bytes cut anywhere. Nothing is held.

+text  -error  :number  _null  #boolean  ,double  (big number     a line
$string  !error  =text with a format                              a length and so many bytes
*array  ~set  >push  %map  |attributes of what follows            a number of replies (of pairs)
$?  *?  ~?  %?                                                    streamed: parts ;length, an end .
"""

from __future__ import annotations

from pkgs.common.dbwire.redis.limits import DEPTH_MAX, LENGTH_MAX, LINE_MAX
from pkgs.common.errors import ProtocolError

TEXT, ERROR = 0x2B, 0x2D
_LINES = frozenset(b":_#,(")
_STRINGS = frozenset(b"$!=")
_AGGREGATES = {ord("*"): 1, ord("~"): 1, ord(">"): 1, ord("%"): 2, ord("|"): 2}
_ATTRIBUTES, _PART, _END = ord("|"), ord(";"), ord(".")
_STRING = ord("$")
_SMALL = {b"%d" % length: length + 4 for length in range(512)}
"""How far most strings end after the line with their length begins to end: the length and two line ends."""
_STREAMED = -1
_STREAMED_STRING = -2


class Replies:
    """Whoever drives it calls `skip`, deals with the line at which it stopped and says `line_done`, and hands
    in again what `skip` left."""

    __slots__ = ("_attributes", "_counts", "_left", "_missing")

    def __init__(self) -> None:
        self._left = 0
        """Bytes of the string under way, with its line end."""
        self._missing: list[int] = []
        """Of each aggregate under way: how many replies have not ended; negative for a streamed one."""
        self._counts: list[bool] = []
        """Whether it is itself a reply."""
        self._attributes = False
        """Said at the top level, and the reply that they belong to has not begun."""

    @property
    def between(self) -> bool:
        """No reply is under way."""
        return not self._left and not self._missing and not self._attributes

    @property
    def inside(self) -> bool:
        """The next line is a part of a larger reply."""
        return bool(self._missing)

    def skip(self, data: bytes, pos: int, *, texts: bool = False) -> tuple[int, int]:
        """Go on from `pos`. Stops before a line that is an error, or with `texts` also a text that is a whole
        reply: where it begins, and where the next begins. Stops too before what is not all there: then both
        are the same. Raises ProtocolError."""
        size = len(data)
        while pos < size:
            if self._left:
                count = min(self._left, size - pos)
                self._left -= count
                pos += count
                if self._left:
                    break
                self._done()
                continue
            kind = data[pos]
            end = data.find(b"\r\n", pos + 1, pos + LINE_MAX)
            if end < 0:
                if size - pos >= LINE_MAX:
                    raise ProtocolError("a line of a Redis server's reply is too long")
                break
            if kind == _STRING and (length := _SMALL.get(data[pos + 1 : end])) and end + length <= size:
                # Most replies: a string that is all there.
                self._done()
                pos = end + length
                continue
            if kind == ERROR or (kind == TEXT and texts and not self._missing):
                return pos, end + 2
            if kind in _STRINGS:
                self._string(data[pos + 1 : end])
            elif kind == TEXT or kind in _LINES:
                self._done()
            elif kind in _AGGREGATES:
                self._aggregate(kind, data[pos + 1 : end])
            elif kind == _PART:
                self._part(data[pos + 1 : end])
            elif kind == _END and self._missing and self._missing[-1] == _STREAMED:
                # One reply is missing, and that is done.
                self._missing[-1] = 1
                self._done()
            else:
                raise ProtocolError("the server does not speak Redis's protocol")
            pos = end + 2
        return pos, pos

    def line_done(self) -> None:
        """The line at which `skip` stopped has been dealt with."""
        self._done()

    def _done(self) -> None:
        """A reply has ended, and with it those that it was the last part of."""
        missing = self._missing
        while missing:
            if missing[-1] < 0:
                return
            missing[-1] -= 1
            if missing[-1]:
                return
            missing.pop()
            if not self._counts.pop():
                self._attributes = not missing
                return
        self._attributes = False

    def _string(self, length: bytes) -> None:
        if length == b"?":
            self._enter(_STREAMED_STRING, True)
        elif length == b"-1":
            self._done()
        else:
            self._left = _number(length) + 2

    def _part(self, length: bytes) -> None:
        if not self._missing or self._missing[-1] != _STREAMED_STRING:
            raise ProtocolError("a Redis server's reply has a part of nothing")
        if length == b"0":
            self._missing[-1] = 1
            self._done()
        else:
            # The end of it changes nothing: the streamed string goes on.
            self._left = _number(length) + 2

    def _aggregate(self, kind: int, count: bytes) -> None:
        replies = kind != _ATTRIBUTES
        if count == b"?":
            self._enter(_STREAMED, replies)
        elif count in (b"0", b"-1"):
            if replies:
                self._done()
        else:
            self._enter(_number(count) * _AGGREGATES[kind], replies)

    def _enter(self, missing: int, counts: bool) -> None:
        if len(self._missing) >= DEPTH_MAX:
            raise ProtocolError("a Redis server's reply is too deep")
        self._missing.append(missing)
        self._counts.append(counts)


def _number(text: bytes) -> int:
    if not text.isdigit() or (number := int(text)) > LENGTH_MAX:
        raise ProtocolError("a Redis server's reply has a length that is none")
    return number
