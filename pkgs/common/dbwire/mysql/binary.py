"""Parameters of COM_STMT_EXECUTE: values in the binary protocol, as text for people to read."""

from __future__ import annotations

import struct
from dataclasses import dataclass

from pkgs.common.dbwire.mysql.values import Reader
from pkgs.common.errors import ProtocolError

NULL = "NULL"
_UNSIGNED = 0x8000
_INTEGERS = {0x01: 1, 0x02: 2, 0x0D: 2, 0x03: 4, 0x09: 4, 0x08: 8}
_FLOAT, _DOUBLE, _NULL = 0x04, 0x05, 0x06
_DATES = (0x07, 0x0A, 0x0C)
"""TIMESTAMP, DATE, DATETIME."""
_TIME = 0x0B
_STRINGS = (0x00, 0x0F, 0x10, 0xF5, 0xF6, 0xF7, 0xF8, 0xF9, 0xFA, 0xFB, 0xFC, 0xFD, 0xFE, 0xFF)
_BEFORE_PARAMETERS = 10
"""Command, statement, flags, iterations."""


@dataclass(frozen=True, slots=True)
class Parameters:
    """What could be read. `values` is shorter than the statement's count when the payload was cut."""

    values: tuple[str | bytes | None, ...]
    """Numbers and times as text, strings as sent; None: sent beforehand in parts."""
    types: tuple[int, ...]
    """For a later execution that doesn't send them again."""


def parse_execute(
    payload: bytes, count: int, types: tuple[int, ...], in_parts: frozenset[int] = frozenset()
) -> Parameters:
    """Parameters of an execution. `count` is how many the statement has, `types` are those of an earlier
    execution, `in_parts` the parameters that COM_STMT_SEND_LONG_DATA brought. The payload may be cut."""
    if not count:
        return Parameters((), types)
    reader = Reader(payload, _BEFORE_PARAMETERS)
    values: list[str | bytes | None] = []
    try:
        nulls = int.from_bytes(reader.take((count + 7) // 8), "little")
        if reader.integer(1):
            types = struct.unpack(f"<{count}H", reader.take(2 * count))
        if len(types) != count:
            raise ProtocolError("an execution does not tell the types of its parameters")
        for index, kind in enumerate(types):
            if index in in_parts:
                values.append(None)
            elif nulls >> index & 1:
                values.append(NULL)
            else:
                values.append(_value(reader, kind))
    except ProtocolError:
        # It was cut, or the server will refuse it: what has been read is what there is to tell.
        pass
    return Parameters(tuple(values), types)


def _value(reader: Reader, kind: int) -> str | bytes:
    base = kind & 0xFF
    if width := _INTEGERS.get(base):
        return str(int.from_bytes(reader.take(width), "little", signed=not kind & _UNSIGNED))
    if base == _FLOAT:
        return f"{struct.unpack('<f', reader.take(4))[0]:.7g}"
    if base == _DOUBLE:
        return repr(struct.unpack("<d", reader.take(8))[0])
    if base == _NULL:
        return NULL
    if base in _DATES:
        return _date(Reader(reader.take(reader.integer(1))))
    if base == _TIME:
        return _time(Reader(reader.take(reader.integer(1))))
    if base in _STRINGS:
        # Of a string that is not all there, what is there.
        return reader.take(min(reader.lenenc(), reader.left))
    raise ProtocolError("a parameter is of a type that MySQL has not")


def _date(reader: Reader) -> str:
    if not reader.left:
        return "0000-00-00"
    text = f"{reader.integer(2):04}-{reader.integer(1):02}-{reader.integer(1):02}"
    if reader.left:
        text += f" {_clock(reader)}"
    return text


def _time(reader: Reader) -> str:
    if not reader.left:
        return "00:00:00"
    sign = "-" if reader.integer(1) else ""
    days = reader.integer(4)
    return f"{sign}{f'{days} ' if days else ''}{_clock(reader)}"


def _clock(reader: Reader) -> str:
    text = f"{reader.integer(1):02}:{reader.integer(1):02}:{reader.integer(1):02}"
    if reader.left:
        text += f".{reader.integer(4):06}"
    return text
