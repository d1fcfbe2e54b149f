"""The two frames that open a user's stream, in MessagePack by hand: maps of short strings.

Equal byte for byte to what the message types of `common/api/tunnel` encode to (a test compares); they
are not imported here because `tsh proxy ssh` starts once per connection and must start fast."""

from __future__ import annotations

from pkgs.common.errors import ProtocolError

FIX_MAP = 0x80
FIX_STR = 0xA0
STR8, STR16 = 0xD9, 0xDA


def encode_strings(fields: dict[str, str]) -> bytes:
    """A map of at most fifteen strings."""
    out = bytearray([FIX_MAP | len(fields)])
    for key, value in fields.items():
        out += _string(key) + _string(value)
    return bytes(out)


def decode_strings(data: bytes) -> dict[str, str]:
    """The same back; ProtocolError for anything else."""
    try:
        if data[0] & 0xF0 != FIX_MAP:
            raise ValueError("not a map")
        at, texts = 1, []
        for _ in range(2 * (data[0] & 0x0F)):
            head = data[at]
            if head & 0xE0 == FIX_STR:
                size, at = head & 0x1F, at + 1
            elif head == STR8:
                size, at = data[at + 1], at + 2
            elif head == STR16:
                size, at = int.from_bytes(data[at + 1 : at + 3], "big"), at + 3
            else:
                raise ValueError("not a string")
            if at + size > len(data):
                raise ValueError("cut")
            texts.append(data[at : at + size].decode())
            at += size
        if at != len(data):
            raise ValueError("trailing bytes")
    except (IndexError, ValueError) as error:
        raise ProtocolError("the proxy's answer is not understood") from error
    return dict(zip(texts[::2], texts[1::2], strict=True))


def _string(text: str) -> bytes:
    data = text.encode()
    if len(data) < 32:
        return bytes([FIX_STR | len(data)]) + data
    if len(data) < 256:
        return bytes([STR8, len(data)]) + data
    return bytes([STR16]) + len(data).to_bytes(2, "big") + data
