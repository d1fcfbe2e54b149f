"""Writing out binary values of common types, for people who read an audit log."""

from __future__ import annotations

import datetime
import math
import struct
import uuid
from collections.abc import Callable

from pkgs.common.dbwire.postgres import limits

BOOL, BYTEA, CHAR, NAME, INT8, INT2, INT4, TEXT, OID = 16, 17, 18, 19, 20, 21, 23, 25, 26
JSON, XML, FLOAT4, FLOAT8, UNKNOWN, BPCHAR, VARCHAR = 114, 142, 700, 701, 705, 1042, 1043
DATE, TIME, TIMESTAMP, TIMESTAMPTZ, NUMERIC, UUID, JSONB = 1082, 1083, 1114, 1184, 1700, 2950, 3802

TEXTUAL = frozenset({CHAR, NAME, TEXT, JSON, XML, UNKNOWN, BPCHAR, VARCHAR})
"""Types whose binary form is their text."""

_DAY_0 = datetime.datetime(2000, 1, 1)


def binary_to_text(value: bytes, type_oid: int) -> str:
    """As PostgreSQL would write it, for common types; everything else as `\\x` and hexadecimal digits."""
    if type_oid in TEXTUAL:
        return value.decode("utf-8", "backslashreplace")
    decode = _DECODERS.get(type_oid)
    if decode is not None:
        try:
            return decode(value)
        except (struct.error, ValueError, OverflowError):
            pass
    return "\\x" + value.hex()


def _signed(size: int) -> Callable[[bytes], str]:
    def decode(value: bytes) -> str:
        if len(value) != size:
            raise ValueError("not of that size")
        return str(int.from_bytes(value, "big", signed=True))

    return decode


def _float(form: str) -> Callable[[bytes], str]:
    def decode(value: bytes) -> str:
        (number,) = struct.unpack(form, value)
        if math.isfinite(number):
            return f"{number:.9g}" if form == ">f" else repr(number)
        return {math.inf: "Infinity", -math.inf: "-Infinity"}.get(number, "NaN")

    return decode


def _bool(value: bytes) -> str:
    return {b"\0": "f", b"\1": "t"}.get(value) or "\\x" + value.hex()


def _oid(value: bytes) -> str:
    return str(struct.unpack(">I", value)[0])


def _uuid(value: bytes) -> str:
    return str(uuid.UUID(bytes=value))


def _jsonb(value: bytes) -> str:
    if value[:1] != b"\1":
        raise ValueError("an unknown version of jsonb")
    return value[1:].decode("utf-8", "backslashreplace")


def _date(value: bytes) -> str:
    (days,) = struct.unpack(">i", value)
    return (_DAY_0 + datetime.timedelta(days=days)).date().isoformat()


def _moment(value: bytes) -> datetime.datetime:
    (microseconds,) = struct.unpack(">q", value)
    return _DAY_0 + datetime.timedelta(microseconds=microseconds)


def _timestamp(value: bytes) -> str:
    return _moment(value).isoformat(" ")


def _timestamptz(value: bytes) -> str:
    return _timestamp(value) + "+00"


def _time(value: bytes) -> str:
    (microseconds,) = struct.unpack(">q", value)
    if not 0 <= microseconds < 86_400_000_000:
        raise ValueError("no time of a day")
    return (_DAY_0 + datetime.timedelta(microseconds=microseconds)).time().isoformat()


def _numeric(value: bytes) -> str:
    """Groups of four decimal digits, the weight of the first, a sign, digits after the point."""
    count, weight, sign, scale = struct.unpack_from(">HhHH", value)
    special = {0xC000: "NaN", 0xD000: "Infinity", 0xF000: "-Infinity"}.get(sign)
    if special:
        return special
    groups = struct.unpack(f">{count}H", value[8:])
    most = limits.NUMERIC_DIGITS_MAX
    if count > most or abs(weight) > most or scale > 4 * most or any(group > 9999 for group in groups):
        raise ValueError("too long to write out")
    whole = "".join(f"{groups[at] if at < count else 0:04}" for at in range(weight + 1)).lstrip("0") or "0"
    zeros = max(0, -weight - 1)
    behind = "0000" * zeros + "".join(f"{group:04}" for group in groups[max(0, weight + 1) :])
    point = f".{behind[:scale]:0<{scale}}" if scale else ""
    return ("-" if sign == 0x4000 else "") + whole + point


_DECODERS: dict[int, Callable[[bytes], str]] = {
    BOOL: _bool,
    INT2: _signed(2),
    INT4: _signed(4),
    INT8: _signed(8),
    OID: _oid,
    FLOAT4: _float(">f"),
    FLOAT8: _float(">d"),
    NUMERIC: _numeric,
    UUID: _uuid,
    JSONB: _jsonb,
    DATE: _date,
    TIME: _time,
    TIMESTAMP: _timestamp,
    TIMESTAMPTZ: _timestamptz,
}
