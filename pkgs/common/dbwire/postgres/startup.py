"""The packets before a session, which have a length but no kind byte: what a client may begin with."""

from __future__ import annotations

from dataclasses import dataclass

from pkgs.common.dbwire.postgres import limits
from pkgs.common.dbwire.postgres.fields import Reader, int32, string
from pkgs.common.errors import ProtocolError

SSL_REQUEST = 80877103
GSSENC_REQUEST = 80877104
CANCEL_REQUEST = 80877102
VERSION_3_0 = 3 << 16
VERSION_3_2 = 3 << 16 | 2
LENGTH = 4


@dataclass(frozen=True, slots=True)
class EncryptionRequest:
    """SSLRequest or GSSENCRequest; answered by one byte."""

    gss: bool = False

    def encode(self) -> bytes:
        return _packet(int32(GSSENC_REQUEST if self.gss else SSL_REQUEST))


@dataclass(frozen=True, slots=True)
class CancelRequest:
    """To stop what another session does. There is no answer."""

    pid: int
    key: bytes
    """The session's secret: four bytes, up to 256 since 3.2."""

    def encode(self) -> bytes:
        return _packet(int32(CANCEL_REQUEST), int32(self.pid), self.key)


@dataclass(frozen=True, slots=True)
class Startup:
    """StartupMessage. Parameters in their order, a name may come more than once: the last one counts."""

    version: int
    parameters: tuple[tuple[bytes, bytes], ...]

    def get(self, name: bytes) -> bytes:
        return dict(self.parameters).get(name, b"")

    def encode(self) -> bytes:
        pairs = (string(text) for pair in self.parameters for text in pair)
        return _packet(int32(self.version), *pairs, b"\0")


First = EncryptionRequest | CancelRequest | Startup


def first_length(raw: bytes) -> int:
    """Bytes that follow the length of a first packet. Raises ProtocolError."""
    length = int.from_bytes(raw[:LENGTH], "big")
    if not 8 <= length <= limits.STARTUP_MAX:
        raise ProtocolError("the client does not speak PostgreSQL's protocol: its first packet is none")
    return length - LENGTH


def parse_first(body: bytes) -> First:
    """What is in a first packet, without its length. Raises ProtocolError."""
    reader = Reader(body)
    code = reader.int32()
    if code in (SSL_REQUEST, GSSENC_REQUEST):
        reader.end()
        return EncryptionRequest(gss=code == GSSENC_REQUEST)
    if code == CANCEL_REQUEST:
        pid, key = reader.int32(), reader.rest()
        if not 4 <= len(key) <= limits.CANCEL_KEY_MAX:
            raise ProtocolError("a cancel request carries no key")
        return CancelRequest(pid, key)
    if code >> 16 != 3:
        raise ProtocolError(
            f"version {code >> 16}.{code & 0xFFFF} of PostgreSQL's protocol is not served", hint="use 3.0"
        )
    parameters: list[tuple[bytes, bytes]] = []
    while name := reader.string():
        parameters.append((name, reader.string()))
    reader.end()
    return Startup(code, tuple(parameters))


def _packet(*parts: bytes) -> bytes:
    body = b"".join(parts)
    return int32(len(body) + LENGTH) + body
