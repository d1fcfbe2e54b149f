"""The bytes that version 0 agrees on.

    client                                server
    HELLO                                 OFFER, before its SSH banner
    ACCEPT
    NEW                                   token, length and text of the host id
    or a token                            KNOWN, or UNKNOWN and the end
    after KNOWN, both ways                number of bytes received, window left
    from then on, both ways               frames: window gained, length, payload; or CLOSE

HELLO is what every SSH client begins with, and the offer is a line that RFC 4253 section 4.2 lets a server
send before its banner: clients and servers that know nothing of resumption understand one another as ever.
Numbers are base 128, lowest group first.
"""

from __future__ import annotations

from pkgs.common.errors import ProtocolError
from pkgs.common.net.resume.limits import HOST_ID_MAX, VARINT_MAX

HELLO = b"SSH-2.0-"
OFFER = b"teleport-resume-v0\r\n"
ACCEPT = b"\x00teleport-resume-v0"
NEW = b"\x00"
KNOWN = b"\x01"
UNKNOWN = b"\x00"
TOKEN_SIZE = 16
TOKEN_BIT = 0x80
"""Set in a token's first byte, which tells it from NEW."""
CLOSE_VALUE = 0xFFFF_FFFF_FFFF_FFFF
CLOSE = b"\xff" * 9 + b"\x01"
"""In place of a window: the sender has said all."""


def encode_number(value: int) -> bytes:
    """A number of at most 64 bits."""
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


class NumberReader:
    """Takes a number byte by byte. Raises ProtocolError for one of more than 64 bits (attack A66)."""

    __slots__ = ("_shift", "_value")

    def __init__(self) -> None:
        self._value = 0
        self._shift = 0

    def take(self, byte: int) -> int | None:
        """The number, once this was its last byte."""
        if self._shift == 7 * (VARINT_MAX - 1) and byte > 1:
            raise ProtocolError("a number of more than 64 bits")
        self._value |= (byte & 0x7F) << self._shift
        if byte & 0x80:
            self._shift += 7
            return None
        value = self._value
        self._value = self._shift = 0
        return value

    def reset(self) -> None:
        self._value = self._shift = 0


def encode_ticket(token: bytes, host_id: str) -> bytes:
    """What a server answers to NEW."""
    name = host_id.encode()
    return token + encode_number(len(name)) + name


class TicketReader:
    """A client's reading of that answer."""

    def __init__(self) -> None:
        self.token = b""
        self.host_id = ""
        self._data = b""

    def feed(self, data: bytes) -> bytes | None:
        """None until the answer is whole; then what came behind it. Raises ProtocolError."""
        self._data += data
        if self._data and not self._data[0] & TOKEN_BIT:
            raise ProtocolError(
                "the server gave no token for resuming the connection",
                hint="on a slow network it may have taken the client for a plain one: add --no-resume",
            )
        if len(self._data) <= TOKEN_SIZE:
            return None
        size = self._data[TOKEN_SIZE]
        if not 0 < size <= HOST_ID_MAX:
            raise ProtocolError("the server's id is empty or too long")
        end = TOKEN_SIZE + 1 + size
        if len(self._data) < end:
            return None
        name = self._data[TOKEN_SIZE + 1 : end]
        if not name.isascii() or not name.decode().replace("-", "").isalnum():
            # It is dialled by this, and shown.
            raise ProtocolError("the server's id is none")
        self.token, self.host_id = self._data[:TOKEN_SIZE], name.decode()
        rest, self._data = self._data[end:], b""
        return rest
