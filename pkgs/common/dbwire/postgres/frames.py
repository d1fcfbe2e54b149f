"""Cutting a stream into messages: a kind byte, a length of 32 bits that counts itself, a body.

Most bytes of a session are rows and COPY data, which nobody looks at: runs of such quiet messages are stepped
over by their lengths and come as one piece, whatever is cut where. Any other message comes once, whole, or if
it is longer than `hold_max` as its first `hold_max` bytes, and the rest as quiet pieces. So memory is bounded
by `hold_max`, and everything that comes out is, in order, everything that went in.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from struct import Struct

from pkgs.common.dbwire.postgres import limits
from pkgs.common.errors import ProtocolError

HEADER = 5
_unpack = Struct(">BI").unpack_from


@cache
def _table(kinds: bytes) -> bytes:
    """One byte for each kind: whether it is among them."""
    return bytes(kind in kinds for kind in range(256))


Piece = tuple[int, memoryview, int]
"""The kind byte, or 0 for quiet bytes: whole messages, or parts of long ones. The bytes with their header.
How many bytes of the message are still to come, as quiet pieces."""


class Frames:
    """One direction of a session after its login."""

    __slots__ = ("_carry", "_dropped", "_known", "_left", "_quiet", "hold_max")

    def __init__(self, known: bytes, quiet: bytes, hold_max: int) -> None:
        self._known = _table(known)
        self._quiet = _table(quiet)
        self.hold_max = hold_max
        self._carry = bytearray()
        """The beginning of a message that is not passed on yet."""
        self._left = 0
        """Bytes still to come of a message whose beginning was passed on."""
        self._dropped = False

    @property
    def midway(self) -> bool:
        """Whether what came out so far ends inside a message."""
        return self._left > 0 and not self._dropped

    def step_over(self, quiet: bytes) -> None:
        """From the next message on, these kinds are the quiet ones."""
        self._quiet = _table(quiet)

    def drop_rest(self) -> None:
        """Keep back the rest of the message that has just come as its beginning."""
        self._dropped = True

    def feed(self, data: memoryview) -> Iterator[Piece]:
        """The pieces of these bytes. Raises ProtocolError at a header that can't be one."""
        quiet = self._quiet
        known = self._known
        hold_max = self.hold_max
        end = len(data)
        pos = 0
        if self._carry:
            pos = self._fill_carry(data)
            if (piece := self._carried()) is None:
                return
            yield piece
            quiet = self._quiet
            self._dropped = self._dropped and self._left > 0
        if self._left:
            upto = min(pos + self._left, end)
            self._left -= upto - pos
            if upto > pos and not self._dropped:
                yield 0, data[pos:upto], 0
            pos = upto
            if self._left:
                return
            self._dropped = False
        begin = pos
        last = end - HEADER
        while pos <= last:
            kind, length = _unpack(data, pos)
            if quiet[kind] and length >= 4:
                pos += length + 1
                continue
            if not known[kind] or not 4 <= length <= limits.MESSAGE_MAX:
                self._check(kind, length)
            if begin < pos:
                yield 0, data[begin:pos], 0
            begin = pos
            held = length + 1 if length < hold_max else hold_max
            if pos + held > end:
                break
            rest = length + 1 - held
            self._dropped = False
            yield kind, data[pos : pos + held], rest
            quiet = self._quiet
            begin = pos + held
            pos = begin + rest
            if self._dropped:
                begin = min(pos, end)
                self._dropped = pos > end
        if pos > end:
            self._left = pos - end
            if self._left > limits.MESSAGE_MAX:
                raise ProtocolError("a message of PostgreSQL's protocol has an impossible length")
        else:
            self._carry += data[pos:]
            self._dropped = False
        if begin < min(pos, end):
            yield 0, data[begin : min(pos, end)], 0

    def _fill_carry(self, data: memoryview) -> int:
        """Add what the message lacks, as far as it has come; the number of bytes taken."""
        carry = self._carry
        pos = max(0, min(HEADER - len(carry), len(data)))
        carry += data[:pos]
        if len(carry) >= HEADER:
            kind, length = _unpack(carry)
            self._check(kind, length)
            held = HEADER if self._quiet[kind] else min(length + 1, self.hold_max)
            taken = min(held - len(carry), len(data) - pos)
            carry += data[pos : pos + taken]
            pos += taken
        return pos

    def _carried(self) -> Piece | None:
        """The message of the carry, if it is as long as it shall be."""
        carry = self._carry
        if len(carry) < HEADER:
            return None
        kind, length = _unpack(carry)
        quiet = self._quiet[kind]
        held = HEADER if quiet else min(length + 1, self.hold_max)
        if len(carry) < held:
            return None
        self._carry = bytearray()
        self._dropped = False
        self._left = length + 1 - held
        return (0, memoryview(carry), 0) if quiet else (kind, memoryview(carry), self._left)

    def _check(self, kind: int, length: int) -> None:
        if not self._known[kind]:
            raise ProtocolError("a message is none of PostgreSQL's protocol")
        if not 4 <= length <= limits.MESSAGE_MAX:
            raise ProtocolError("a message of PostgreSQL's protocol has an impossible length")
