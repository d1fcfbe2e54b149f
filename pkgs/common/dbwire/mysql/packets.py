"""Packets: three bytes of length, one of sequence, the payload."""

from __future__ import annotations

import struct

from pkgs.common.dbwire.mysql.limits import PACKET_MAX

HEADER = 4
ROW_HEADER = struct.Struct("<IB")
"""Length and sequence as one number, and the first byte of the payload."""


def frame(sequence: int, payload: bytes) -> bytes:
    """The payload as one packet, or as several when it is too long for one; the first has this number."""
    pieces: list[bytes] = []
    for start in range(0, len(payload) + 1, PACKET_MAX):
        piece = payload[start : start + PACKET_MAX]
        pieces += len(piece).to_bytes(3, "little"), bytes((sequence & 0xFF,)), piece
        sequence += 1
    return b"".join(pieces)


class Packets:
    """Follows where messages begin and end in one direction's bytes, which may be cut anywhere. A message is
    a packet, or several of which all but the last are full. Its beginning is kept, the rest only counted.

    Whoever drives it calls `open` at the start of each packet and `take` until it has ended, and hands in
    again what `open` found too short."""

    __slots__ = ("_continues", "_left", "_longest", "inside", "kept", "sequence", "size")

    def __init__(self, longest: int) -> None:
        self._longest = longest
        self._left = 0
        self._continues = False
        self.inside = False
        """A packet has begun and not ended."""
        self.kept = bytearray()
        """The beginning of the message's payload, of `longest` bytes at most."""
        self.size = 0
        """Bytes of payload so far."""
        self.sequence = 0
        """Of the last packet."""

    @property
    def between(self) -> bool:
        """No message is under way: the last one is whole."""
        return not self.inside and not self._continues

    @property
    def left(self) -> int:
        """Bytes of the packet that are still to come."""
        return self._left

    def open(self, data: memoryview, pos: int) -> bool:
        """Read the header at `pos`. False when not all of it, and one byte of the payload, is there."""
        if len(data) - pos < HEADER:
            return False
        length = int.from_bytes(data[pos : pos + 3], "little")
        if length and len(data) - pos == HEADER:
            return False
        if not self._continues:
            self.kept.clear()
            self.size = 0
        self.sequence = data[pos + 3]
        self._left = length
        self._continues = length == PACKET_MAX
        self.inside = True
        return True

    def take(self, data: memoryview, pos: int) -> int:
        """Go over the payload that is there, from `pos`; where it, or the packet, ends."""
        count = min(self._left, len(data) - pos)
        if (room := self._longest - len(self.kept)) > 0:
            self.kept += data[pos : pos + min(count, room)]
        self.size += count
        self._left -= count
        self.inside = self._left > 0
        return pos + count

    def rows(self, data: memoryview, pos: int) -> tuple[int, int]:
        """The fast way over rows: how many whole packets from `pos` on are plain rows, and where they end.
        It stops before what may be an end or an error, and before what is long or not all there."""
        unpack, last, count = ROW_HEADER.unpack_from, len(data) - ROW_HEADER.size, 0
        while pos <= last:
            word, first = unpack(data, pos)
            length = word & PACKET_MAX
            end = pos + HEADER + length
            if first >= 0xFE or end > len(data) or not 0 < length < PACKET_MAX:
                break
            count += 1
            self.sequence = word >> 24
            pos = end
        return count, pos
