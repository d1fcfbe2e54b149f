"""What a message of two frames means: a header that routes it, and a body.

Header (MessagePack array, trailing defaults may be left out): kind, call id, number, method, key.
The number is the deadline in milliseconds of a call, or credit. Bodies of calls, answers and items are
MessagePack; of upload chunks raw bytes; of errors `[code, message, hint]`.
"""

from __future__ import annotations

from typing import Any, Final

import msgspec

from pkgs.common.errors import (
    BY_CODE,
    AccessError,
    InputError,
    InternalError,
    ProtocolError,
    UnavailableError,
)
from pkgs.common.rpc.limits import (
    MAX_CALL_ID,
    MAX_CREDIT,
    MAX_ERROR_CHARS,
    MAX_KEY_CHARS,
    MAX_METHOD_CHARS,
)

# client to server
CALL: Final = 1
STREAM: Final = 2
UPLOAD: Final = 3
CHUNK: Final = 4
CANCEL: Final = 5
# both ways
CREDIT: Final = 6
END: Final = 7
# server to client
ANSWER: Final = 8
ITEM: Final = 9
ERROR: Final = 10

MAX_NUMBER: Final = 2**32 - 1


class Header(msgspec.Struct, array_like=True, frozen=True, gc=False):
    kind: int
    call_id: int
    number: int = 0
    method: str = ""
    key: str = ""


class ErrorBody(msgspec.Struct, array_like=True, frozen=True, gc=False):
    code: str
    message: str
    hint: str = ""


encode: Final = msgspec.msgpack.Encoder().encode
_headers: Final = msgspec.msgpack.Decoder(Header)
_errors: Final = msgspec.msgpack.Decoder(ErrorBody)
_untyped: Final = msgspec.msgpack.Decoder()


def parse_header(raw: bytes) -> Header:
    """The header of a message; ProtocolError for anything that no client of ours would send."""
    try:
        header = _headers.decode(raw)
    except (msgspec.DecodeError, RecursionError) as bad:
        raise ProtocolError("a malformed message header") from bad
    if not (0 < header.call_id <= MAX_CALL_ID and 0 <= header.number <= MAX_NUMBER):
        raise ProtocolError("a number of a message header is out of range")
    if len(header.method) > MAX_METHOD_CHARS or len(header.key) > MAX_KEY_CHARS:
        raise ProtocolError("a name in a message header is too long")
    return header


def start_header(kind: int, call_id: int, seconds: float, method: str, key: str = "") -> bytes:
    """Header of a CALL, STREAM or UPLOAD; 0 seconds: the server's own deadline, or none for a stream."""
    number = min(max(int(seconds * 1000), 1), MAX_NUMBER) if seconds else 0
    return encode((kind, call_id, number, method, key) if key else (kind, call_id, number, method))


def parse_credit(number: int) -> int:
    if not 0 < number <= MAX_CREDIT:
        raise ProtocolError("credit out of range")
    return number


def decode_body(decoder: msgspec.msgpack.Decoder[Any], raw: bytes) -> Any:
    """A request from its bytes, or InputError.

    Beyond the type, the bytes must be the canonical MessagePack that our encoder writes: a duplicate key
    or trailing bytes could otherwise mean one thing to a checker and another to the handler (attack A43).
    The typed decoder goes first, since it refuses the wrong shape before it allocates for it.
    """
    try:
        value = decoder.decode(raw)
        canonical = encode(_untyped.decode(raw))
    except (msgspec.DecodeError, RecursionError, ValueError, TypeError, OverflowError) as bad:
        reason = "nested too deeply" if isinstance(bad, RecursionError) else str(bad)
        raise InputError(f"the request does not parse: {reason}"[:MAX_ERROR_CHARS]) from bad
    if canonical != raw:
        raise InputError("the request does not parse: not canonical MessagePack, or a key is given twice")
    return value


def encode_error(error: AccessError) -> bytes:
    """What crosses the wire of an error: never its detail, reasons or traceback."""
    return encode((error.code, error.message[:MAX_ERROR_CHARS], error.hint[:MAX_ERROR_CHARS]))


def decode_error(raw: bytes) -> AccessError:
    """The error a peer sent; an unknown code is an InternalError."""
    try:
        body = _errors.decode(raw)
    except (msgspec.DecodeError, RecursionError) as bad:
        raise ProtocolError("a malformed error from the server") from bad
    return BY_CODE.get(body.code, InternalError)(body.message, hint=body.hint)


def refusal_text(error: AccessError) -> str:
    """Why a peer is not let in, in one line that `refusal_from` turns into the error again."""
    return f"{error.code} {error}"


def refusal_from(reason: str) -> AccessError:
    """The error behind a refusal. Without a known code it is what a lost connection is."""
    code, _, message = reason.partition(" ")
    return BY_CODE.get(code, UnavailableError)(f"the server does not let us in: {message}")
