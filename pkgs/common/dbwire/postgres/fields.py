"""Reading and writing what bodies consist of: numbers in network order, strings that end with a zero byte."""

from __future__ import annotations

from functools import lru_cache
from struct import Struct

from pkgs.common.errors import ProtocolError

_INT16 = Struct(">H")
_INT32 = Struct(">I")
_MALFORMED = "a message of PostgreSQL's protocol does not parse"


@lru_cache(maxsize=64)
def _many(form: str, count: int) -> Struct:
    return Struct(f">{count}{form}")


class Reader:
    """The body of one message. Every method raises ProtocolError when there is not that much left."""

    __slots__ = ("_body", "_pos")

    def __init__(self, body: bytes) -> None:
        self._body = body
        self._pos = 0

    def _advance(self, count: int) -> int:
        pos = self._pos
        if count > len(self._body) - pos:
            raise ProtocolError(_MALFORMED)
        self._pos = pos + count
        return pos

    def byte(self) -> int:
        return self._body[self._advance(1)]

    def int16(self) -> int:
        return int(_INT16.unpack_from(self._body, self._advance(2))[0])

    def int32(self) -> int:
        return int(_INT32.unpack_from(self._body, self._advance(4))[0])

    def int16s(self) -> tuple[int, ...]:
        count = self.int16()
        return _many("H", count).unpack_from(self._body, self._advance(2 * count)) if count else ()

    def int32s(self) -> tuple[int, ...]:
        count = self.int16()
        return _many("I", count).unpack_from(self._body, self._advance(4 * count)) if count else ()

    def string(self) -> bytes:
        """Without its zero byte."""
        end = self._body.find(b"\0", self._pos)
        if end < 0:
            raise ProtocolError(_MALFORMED)
        text = self._body[self._pos : end]
        self._pos = end + 1
        return text

    def take(self, count: int) -> bytes:
        pos = self._advance(count)
        return self._body[pos : pos + count]

    @property
    def left(self) -> int:
        return len(self._body) - self._pos

    def rest(self) -> bytes:
        return self.take(self.left)

    def end(self) -> None:
        """There must be nothing after what was read."""
        if self._pos != len(self._body):
            raise ProtocolError(_MALFORMED)


def message(kind: bytes, *parts: bytes | memoryview) -> bytes:
    body = b"".join(parts)
    return kind + _INT32.pack(len(body) + 4) + body


def string(value: bytes | str) -> bytes:
    """Raises ProtocolError for one that would end early."""
    raw = value.encode() if isinstance(value, str) else value
    if b"\0" in raw:
        raise ProtocolError("a text for PostgreSQL holds a zero byte")
    return raw + b"\0"


def int16(value: int) -> bytes:
    return _INT16.pack(value)


def int32(value: int) -> bytes:
    return _INT32.pack(value)
