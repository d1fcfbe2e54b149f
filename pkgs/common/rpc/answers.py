"""Requests to bytes and bytes to answers, for both clients. Imports nothing heavy."""

from __future__ import annotations

from typing import Any

import msgspec

from pkgs.common.errors import LimitExceededError, ProtocolError
from pkgs.common.rpc import envelope
from pkgs.common.rpc.limits import MIB

_MAX_REQUEST_BYTES = MIB
_decoders: dict[type[Any], msgspec.msgpack.Decoder[Any]] = {}


def encode_request(request: Any) -> tuple[str, bytes]:
    """Method and body. A request that no server would take is refused here."""
    body = envelope.encode(request)
    if len(body) > _MAX_REQUEST_BYTES:
        raise LimitExceededError(
            f"the request is too long: {len(body):,} bytes, at most {_MAX_REQUEST_BYTES:,}",
            hint="send less at once",
        )
    return request.method(), body


def decode_answer(request: type[Any], raw: bytes) -> Any:
    """An answer or item of the request's answer type. Fields of a newer server are passed over."""
    decoder = _decoders.get(request)
    if decoder is None:
        decoder = _decoders[request] = msgspec.msgpack.Decoder(request.answer_type())
    try:
        return decoder.decode(raw)
    except (msgspec.DecodeError, RecursionError) as bad:
        raise ProtocolError(f"the server's answer to {request.method()} does not parse: {bad}") from bad
