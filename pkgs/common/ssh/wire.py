"""Reading and writing the SSH wire types of RFC 4251. Sans-IO; raises WireError and nothing else."""

from __future__ import annotations

from pkgs.common.errors import ProtocolError


class WireError(ProtocolError):
    """The peer's bytes do not parse."""


class Reader:
    """Takes typed values off the front of a message."""

    __slots__ = ("_data", "_pos")

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._pos = 0

    def take(self, count: int) -> bytes:
        """Exactly `count` bytes."""
        end = self._pos + count
        if end > len(self._data):
            raise WireError("message is too short")
        out = self._data[self._pos : end]
        self._pos = end
        return out

    def byte(self) -> int:
        return self.take(1)[0]

    def boolean(self) -> bool:
        return self.take(1) != b"\0"

    def uint32(self) -> int:
        return int.from_bytes(self.take(4), "big")

    def string(self) -> bytes:
        return self.take(self.uint32())

    def text(self) -> str:
        """A string that must be UTF-8."""
        try:
            return self.string().decode()
        except UnicodeDecodeError:
            raise WireError("text is not UTF-8") from None

    def rest(self) -> bytes:
        out = self._data[self._pos :]
        self._pos = len(self._data)
        return out

    def at_end(self) -> bool:
        return self._pos == len(self._data)


def uint32(value: int) -> bytes:
    return value.to_bytes(4, "big")


def string(value: bytes | str) -> bytes:
    raw = value.encode() if isinstance(value, str) else value
    return len(raw).to_bytes(4, "big") + raw


def boolean(value: bool) -> bytes:
    return b"\1" if value else b"\0"
