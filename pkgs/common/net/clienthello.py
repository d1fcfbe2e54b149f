"""What a TLS client says it wants (SNI and ALPN), read from bytes that are only peeked at. Sans-IO.

The parser is total: any bytes give a `ClientHello`, None (more bytes are needed) or a ProtocolError.
It believes nothing it reads beyond choosing a service; the TLS library checks the handshake itself.
RFC 8446 section 4.1.2 and 5.1, RFC 6066 section 3, RFC 7301 section 3.1.
"""

from __future__ import annotations

from dataclasses import dataclass

from pkgs.common.errors import ProtocolError
from pkgs.common.net.limits import HELLO_MAX

_HANDSHAKE = 22
_CLIENT_HELLO = 1
_RECORD_MAX = 16_384
_EXT_SNI = 0
_EXT_ALPN = 16
_NAME_MAX = 255


@dataclass(frozen=True, slots=True)
class ClientHello:
    sni: str = ""
    """Host name asked for, lower case; empty when the client named none."""
    alpn: tuple[str, ...] = ()
    """Protocols offered, in the client's order."""


def parse_client_hello(raw: bytes) -> ClientHello | None:
    """The ClientHello at the start of `raw`; None when it is not all there yet."""
    message, _ = _handshake_message(raw)
    return None if message is None else _parse_hello(message)


def bytes_needed(raw: bytes) -> int:
    """How long `raw` must at least be before parsing can get further. Call when parsing gave None."""
    message, needed = _handshake_message(raw)
    return len(raw) if message is not None else needed


def _handshake_message(raw: bytes) -> tuple[bytes | None, int]:
    """The first handshake message, put together from its TLS records; or how many bytes are needed."""
    body = bytearray()
    offset = 0
    while True:
        if offset + 5 > HELLO_MAX:
            raise ProtocolError("the TLS hello is too long")
        if raw[offset : offset + 1] not in (b"", b"\x16"):
            raise ProtocolError("this port speaks TLS")
        if raw[offset + 1 : offset + 2] not in (b"", b"\x03"):
            raise ProtocolError("this port speaks TLS 1.2 or newer")
        if len(raw) < offset + 5:
            return None, offset + 5
        length = int.from_bytes(raw[offset + 3 : offset + 5], "big")
        if not 0 < length <= _RECORD_MAX:
            raise ProtocolError("a TLS record of that size is not allowed here")
        end = offset + 5 + length
        if end > HELLO_MAX:
            raise ProtocolError("the TLS hello is too long")
        if len(raw) < end:
            _check_start(raw[offset + 5 :] if offset == 0 else body)
            return None, end
        body += raw[offset + 5 : end]
        _check_start(body)
        if len(body) >= 4:
            total = 4 + int.from_bytes(body[1:4], "big")
            if total > HELLO_MAX:
                raise ProtocolError("the TLS hello is too long")
            if len(body) >= total:
                return bytes(body[4:total]), end
        offset = end


def _check_start(body: bytes | bytearray) -> None:
    if body and body[0] != _CLIENT_HELLO:
        raise ProtocolError("the connection did not begin with a TLS hello")


class _Reader:
    """Bounds-checked reading of TLS vectors; running off the end is a ProtocolError."""

    __slots__ = ("_at", "_raw")

    def __init__(self, raw: bytes) -> None:
        self._raw = raw
        self._at = 0

    @property
    def left(self) -> int:
        return len(self._raw) - self._at

    def take(self, count: int) -> bytes:
        if count > self.left:
            raise ProtocolError("the TLS hello is malformed")
        self._at += count
        return self._raw[self._at - count : self._at]

    def number(self, width: int) -> int:
        return int.from_bytes(self.take(width), "big")

    def vector(self, width: int) -> bytes:
        return self.take(self.number(width))


def _parse_hello(message: bytes) -> ClientHello:
    reader = _Reader(message)
    reader.take(2 + 32)
    reader.vector(1)
    reader.vector(2)
    reader.vector(1)
    if not reader.left:
        return ClientHello()
    extensions = _Reader(reader.vector(2))
    sni = ""
    alpn: tuple[str, ...] = ()
    seen: set[int] = set()
    while extensions.left:
        number = extensions.number(2)
        content = extensions.vector(2)
        if number in seen:
            raise ProtocolError("the TLS hello repeats an extension")
        seen.add(number)
        if number == _EXT_SNI:
            sni = _server_name(content)
        elif number == _EXT_ALPN:
            alpn = _protocols(content)
    return ClientHello(sni, alpn)


def _server_name(content: bytes) -> str:
    names = _Reader(_Reader(content).vector(2))
    while names.left:
        kind = names.number(1)
        name = names.vector(2)
        if kind != 0:
            continue
        if not name or len(name) > _NAME_MAX or not name.isascii() or not name.decode("ascii").isprintable():
            raise ProtocolError("the TLS hello names an impossible server")
        return name.decode("ascii").lower()
    return ""


def _protocols(content: bytes) -> tuple[str, ...]:
    names = _Reader(_Reader(content).vector(2))
    found: list[str] = []
    while names.left:
        name = names.vector(1)
        if not name:
            raise ProtocolError("the TLS hello offers an empty protocol name")
        found.append(name.decode("latin-1"))
    return tuple(found)
