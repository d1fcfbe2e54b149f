"""OK, ERR and EOF: how a server ends its answers (protocol 4.1)."""

from __future__ import annotations

from dataclasses import dataclass

from pkgs.common.dbwire.mysql.values import Reader, lenenc
from pkgs.common.errors import ProtocolError

OK = 0x00
LOCAL_INFILE = 0xFB
"""In place of a result: the server wants a file of the client's."""
EOF = 0xFE
"""Also the mark of an OK that ends rows, with DEPRECATE_EOF."""
ERR = 0xFF
_EOF_SIZE = 9
"""An EOF is shorter; what is longer and begins like one is a row."""

ACCESS_DENIED = (1045, "28000")
UNKNOWN_COMMAND = (1047, "08S01")
UNKNOWN_ERROR = (1105, "HY000")
NOT_SUPPORTED = (1235, "42000")
TLS_NEEDED = (3159, "HY000")


@dataclass(frozen=True, slots=True)
class Ok:
    affected: int
    status: int


@dataclass(frozen=True, slots=True)
class Error:
    code: int
    state: str
    """SQLSTATE; empty when the server sent none, as before the login."""
    message: str


def parse_ok(payload: bytes) -> Ok:
    """An OK, with either of its marks. What follows the status is left unread."""
    reader = Reader(payload, 1)
    affected = reader.lenenc()
    reader.lenenc()
    return Ok(affected, reader.integer(2))


def parse_eof(payload: bytes) -> Ok:
    if len(payload) >= _EOF_SIZE:
        raise ProtocolError("a MySQL server's end of rows is too long")
    reader = Reader(payload, 1)
    reader.integer(2)
    return Ok(0, reader.integer(2))


def parse_error(payload: bytes) -> Error:
    reader = Reader(payload, 1)
    code = reader.integer(2)
    text = reader.rest()
    state = ""
    if text[:1] == b"#":
        state, text = text[1:6].decode("ascii", "replace"), text[6:]
    return Error(code, state, text.decode("utf-8", "replace"))


def ok(status: int = 0x0002) -> bytes:
    """An OK without anything to tell; by default outside a transaction."""
    return bytes((OK,)) + lenenc(0) * 2 + status.to_bytes(2, "little") + b"\0\0"


def error(kind: tuple[int, str], message: str) -> bytes:
    """An ERR; `kind` is a number and an SQLSTATE, such as ACCESS_DENIED."""
    code, state = kind
    return bytes((ERR,)) + code.to_bytes(2, "little") + b"#" + state.encode() + message.encode()
