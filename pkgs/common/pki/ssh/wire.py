"""The SSH wire encoding (RFC 4251 section 5) as a strict reader and a writer. No I/O.

The reader raises `WireError` for anything that does not fit, and nothing else; whoever reads a whole
structure ends with `end()`, so that trailing bytes never pass unseen.
"""

from __future__ import annotations

import struct


class WireError(ValueError):
    """The bytes are not the structure that was asked for."""


class Reader:
    """Takes fields off the front of a byte string."""

    __slots__ = ("_at", "_data")

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = 0

    def _take(self, size: int) -> bytes:
        end = self._at + size
        if end > len(self._data):
            raise WireError("truncated")
        taken = self._data[self._at : end]
        self._at = end
        return taken

    @property
    def position(self) -> int:
        return self._at

    @property
    def at_end(self) -> bool:
        return self._at == len(self._data)

    def uint32(self) -> int:
        return int.from_bytes(self._take(4), "big")

    def uint64(self) -> int:
        return int.from_bytes(self._take(8), "big")

    def string(self) -> bytes:
        return self._take(self.uint32())

    def text(self) -> str:
        """A string that must be UTF-8."""
        try:
            return self.string().decode()
        except UnicodeDecodeError as error:
            raise WireError("text is not UTF-8") from error

    def mpint(self) -> int:
        """A positive multiple-precision integer in its shortest form."""
        raw = self.string()
        if not raw or raw[0] & 0x80:
            raise WireError("integer is not positive")
        if raw[0] == 0 and (len(raw) == 1 or not raw[1] & 0x80):
            raise WireError("integer is not in its shortest form")
        return int.from_bytes(raw, "big")

    def end(self) -> None:
        """Refuses bytes after the structure."""
        if not self.at_end:
            raise WireError("trailing bytes")


def uint64(value: int) -> bytes:
    return struct.pack(">Q", value)


def uint32(value: int) -> bytes:
    return struct.pack(">I", value)


def string(value: bytes) -> bytes:
    return struct.pack(">I", len(value)) + value


def text(value: str) -> bytes:
    return string(value.encode())


def mpint(value: int) -> bytes:
    """A positive integer."""
    return string(value.to_bytes(value.bit_length() // 8 + 1, "big"))
