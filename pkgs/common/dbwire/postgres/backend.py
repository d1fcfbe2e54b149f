"""What a server says. Parsers take a message with its header."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from pkgs.common.dbwire.postgres import limits
from pkgs.common.dbwire.postgres.fields import Reader, int16, int32, message, string
from pkgs.common.dbwire.postgres.frames import HEADER
from pkgs.common.errors import ProtocolError

PARSE_COMPLETE, BIND_COMPLETE, CLOSE_COMPLETE = b"123"
NOTIFICATION, COMMAND_COMPLETE, DATA_ROW, ERROR, COPY_IN, COPY_OUT = b"ACDEGH"
EMPTY_QUERY, KEY_DATA, NOTICE, AUTHENTICATION, PARAMETER_STATUS = b"IKNRS"
ROW_DESCRIPTION, FUNCTION_RESULT, COPY_BOTH, READY = b"TVWZ"
COPY_DONE, COPY_DATA, NO_DATA, SUSPENDED, PARAMETER_DESCRIPTION, NEGOTIATE = b"cdnstv"
KINDS = b"123ACDEGHIKNRSTVWZcdnstv"

_AUTHENTICATION = {
    2: "Kerberos",
    3: "a password in clear text",
    5: "a password by MD5",
    7: "GSSAPI",
    9: "SSPI",
    10: "a password by SCRAM",
}


@dataclass(frozen=True, slots=True)
class Report:
    """ErrorResponse or NoticeResponse: fields by their letter, as they came."""

    fields: tuple[tuple[int, bytes], ...]

    def get(self, letter: str) -> str:
        """A field as text: S and V severity, C SQLSTATE, M message, D detail, H hint, P p q positions,
        W where, s t c d n names of schema, table, column, type, constraint, F L R the place in the source."""
        code = ord(letter)
        return next((value.decode("utf-8", "replace") for kind, value in self.fields if kind == code), "")

    def encode(self, kind: bytes = b"E") -> bytes:
        return message(kind, *(bytes([letter]) + string(value) for letter, value in self.fields), b"\0")


def error(text: str, code: str, *, severity: str = "ERROR", detail: str = "", hint: str = "") -> bytes:
    """An ErrorResponse of ours; FATAL tells that the session is over."""
    texts = {"S": severity, "V": severity, "C": code, "M": text, "D": detail, "H": hint}
    fields = ((ord(letter), value.replace("\0", " ").encode()) for letter, value in texts.items() if value)
    return Report(tuple(fields)).encode()


def parse_report(raw: memoryview, rest: int = 0) -> Report:
    """With `rest`, the fields that came whole."""
    reader = Reader(bytes(raw[HEADER:]))
    fields: list[tuple[int, bytes]] = []
    try:
        while letter := reader.byte():
            fields.append((letter, reader.string()))
        reader.end()
    except ProtocolError:
        if not rest:
            raise
    return Report(tuple(fields))


@dataclass(frozen=True, slots=True)
class Column:
    name: bytes
    table: int
    """Oid of the table; 0 for what is computed."""
    attribute: int
    """Number of the column in it; 0 for what is computed."""
    type: int
    size: int
    modifier: int
    format: int

    def encode(self) -> bytes:
        numbers = (int32(self.table), int16(self.attribute), int32(self.type), int16(self.size))
        return b"".join((string(self.name), *numbers, int32(self.modifier), int16(self.format)))


def row_description(columns: tuple[Column, ...]) -> bytes:
    return message(b"T", int16(len(columns)), *(column.encode() for column in columns))


def parse_row_description(raw: memoryview) -> tuple[Column, ...]:
    reader = Reader(bytes(raw[HEADER:]))
    columns = tuple(_column(reader) for _ in range(reader.int16()))
    reader.end()
    return columns


def _column(reader: Reader) -> Column:
    name, table, attribute, kind = reader.string(), reader.int32(), reader.int16(), reader.int32()
    return Column(name, table, attribute, kind, reader.int16(), reader.int32(), reader.int16())


def parse_parameter_description(raw: memoryview) -> tuple[int, ...]:
    """Oids of a statement's parameters."""
    reader = Reader(bytes(raw[HEADER:]))
    types = reader.int32s()
    reader.end()
    return types


def data_row(values: Sequence[bytes | None]) -> bytes:
    parts = [int16(len(values))]
    for value in values:
        parts += [int32(0xFFFF_FFFF)] if value is None else [int32(len(value)), value]
    return message(b"D", *parts)


def parse_data_row(raw: memoryview) -> list[bytes | None]:
    reader = Reader(bytes(raw[HEADER:]))
    values: list[bytes | None] = []
    for _ in range(reader.int16()):
        length = reader.int32()
        values.append(None if length == 0xFFFF_FFFF else reader.take(length))
    reader.end()
    return values


def command_complete(tag: str) -> bytes:
    return message(b"C", string(tag))


def parse_command_complete(raw: memoryview) -> int | None:
    """Rows returned or touched: the last word of `INSERT 0 5`, `SELECT 3`; None for `BEGIN` and `SHOW`."""
    tag = bytes(raw[HEADER:-1])
    count = tag.rpartition(b" ")[2]
    return int(count) if len(count) < 20 and count.isdigit() else None


def ready(status: bytes = b"I") -> bytes:
    return message(b"Z", status)


def parse_ready(raw: memoryview) -> int:
    """`I` idle, `T` in a transaction, `E` in one that failed."""
    if len(raw) != HEADER + 1 or raw[HEADER] not in b"ITE":
        raise ProtocolError("the server is ready in a state that there is none of")
    return raw[HEADER]


def parameter_status(name: str, value: str) -> bytes:
    return message(b"S", string(name), string(value))


def parse_parameter_status(raw: memoryview) -> tuple[str, str]:
    reader = Reader(bytes(raw[HEADER:]))
    name, value = reader.string(), reader.string()
    reader.end()
    return name.decode("utf-8", "replace"), value.decode("utf-8", "replace")


def key_data(pid: int, key: bytes) -> bytes:
    return message(b"K", int32(pid), key)


def parse_key_data(raw: memoryview) -> tuple[int, bytes]:
    """Process id of the session and its secret for cancel requests."""
    reader = Reader(bytes(raw[HEADER:]))
    pid, key = reader.int32(), reader.rest()
    if not 4 <= len(key) <= limits.CANCEL_KEY_MAX:
        raise ProtocolError("the server's key for cancel requests has an impossible length")
    return pid, key


def authentication_ok() -> bytes:
    return message(b"R", int32(0))


def parse_authentication(raw: memoryview) -> str:
    """Empty when the server is content, else what it asks for."""
    code = Reader(bytes(raw[HEADER:])).int32()
    return "" if code == 0 else _AUTHENTICATION.get(code, f"authentication method {code}")


@dataclass(frozen=True, slots=True)
class Negotiation:
    """NegotiateProtocolVersion: what the server does not know of what was asked."""

    version: int
    """The newest that it speaks: the whole number in 3.2, of older servers only the minor one."""
    options: tuple[bytes, ...]

    def encode(self) -> bytes:
        return message(b"v", int32(self.version), int32(len(self.options)), *map(string, self.options))


def parse_negotiation(raw: memoryview) -> Negotiation:
    reader = Reader(bytes(raw[HEADER:]))
    version, count = reader.int32(), reader.int32()
    if count > reader.left:
        raise ProtocolError("the server counts more options than it names")
    options = tuple(reader.string() for _ in range(count))
    reader.end()
    return Negotiation(version, options)
