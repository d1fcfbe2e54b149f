"""The protocol's basic types."""

from __future__ import annotations

from pkgs.common.errors import ProtocolError


class Reader:
    """Takes values from the start of a payload. Every method raises ProtocolError when it is too short."""

    __slots__ = ("_data", "_pos")

    def __init__(self, data: bytes, pos: int = 0) -> None:
        self._data = data
        self._pos = pos

    @property
    def left(self) -> int:
        return len(self._data) - self._pos

    def take(self, count: int) -> bytes:
        end = self._pos + count
        if end > len(self._data):
            raise ProtocolError("a MySQL packet ends too early")
        taken = self._data[self._pos : end]
        self._pos = end
        return taken

    def integer(self, width: int) -> int:
        return int.from_bytes(self.take(width), "little")

    def lenenc(self) -> int:
        """A length-encoded integer."""
        first = self.integer(1)
        if first < 0xFB:
            return first
        width = {0xFC: 2, 0xFD: 3, 0xFE: 8}.get(first)
        if width is None:
            raise ProtocolError("a MySQL packet has a length that is none")
        return self.integer(width)

    def counted(self) -> bytes:
        """A length-encoded string."""
        return self.take(self.lenenc())

    def terminated(self) -> bytes:
        """A string up to its zero byte."""
        end = self._data.find(b"\0", self._pos)
        if end < 0:
            raise ProtocolError("a MySQL packet has a string without end")
        text = self._data[self._pos : end]
        self._pos = end + 1
        return text

    def rest(self) -> bytes:
        return self.take(self.left)


def lenenc(number: int) -> bytes:
    """A length-encoded integer."""
    if number < 0xFB:
        return bytes((number,))
    for mark, width in ((0xFC, 2), (0xFD, 3), (0xFE, 8)):
        if number < 1 << 8 * width:
            return bytes((mark,)) + number.to_bytes(width, "little")
    raise ValueError("more than 64 bits")


def counted(text: bytes) -> bytes:
    """A length-encoded string."""
    return lenenc(len(text)) + text
