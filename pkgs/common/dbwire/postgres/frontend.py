"""What a client says in a session. Parsers take a message with its header, or as much of it as was held."""

from __future__ import annotations

from dataclasses import dataclass

from pkgs.common.dbwire.postgres.fields import Reader, int16, int32, message, string
from pkgs.common.dbwire.postgres.frames import HEADER
from pkgs.common.errors import ProtocolError

BIND, CLOSE, COPY_DATA, COPY_DONE, COPY_FAIL = b"BCdcf"
DESCRIBE, EXECUTE, FLUSH, FUNCTION_CALL = b"DEHF"
PARSE, PASSWORD, QUERY, SYNC, TERMINATE = b"PpQSX"
KINDS = b"BCdcfDEHFPpQSX"

STATEMENT, PORTAL = b"SP"
TEXT, BINARY = 0, 1


@dataclass(frozen=True, slots=True)
class Parse:
    name: bytes
    text: bytes
    types: tuple[int, ...] = ()
    """Oids that the client chose for parameters; 0 leaves it to the server."""
    cut: bool = False

    def encode(self) -> bytes:
        oids = b"".join(map(int32, self.types))
        return message(b"P", string(self.name), string(self.text), int16(len(self.types)), oids)


@dataclass(frozen=True, slots=True)
class Values:
    """Parameters of a Bind, arguments of a FunctionCall."""

    formats: tuple[int, ...]
    """None: all text; one: for all; otherwise one for each."""
    values: tuple[bytes | None, ...]
    """None is NULL. The last one is incomplete when `cut`."""
    cut: bool = False
    """Something is missing at the end."""

    def format(self, index: int) -> int:
        if len(self.formats) == 1:
            return self.formats[0]
        return self.formats[index] if index < len(self.formats) else TEXT


@dataclass(frozen=True, slots=True)
class Bind:
    portal: bytes
    statement: bytes
    parameters: Values
    results: tuple[int, ...] = ()
    """Formats of the columns, as in `Values.formats`."""

    def encode(self) -> bytes:
        results = b"".join(map(int16, self.results))
        head = string(self.portal) + string(self.statement)
        return message(b"B", head, _encode(self.parameters), int16(len(self.results)), results)


@dataclass(frozen=True, slots=True)
class Named:
    """Describe or Close: of a statement or a portal."""

    what: int
    name: bytes

    def encode(self, kind: bytes) -> bytes:
        return message(kind, bytes([self.what]), string(self.name))


@dataclass(frozen=True, slots=True)
class FunctionCall:
    function: int
    arguments: Values

    def encode(self) -> bytes:
        return message(b"F", int32(self.function), _encode(self.arguments), int16(TEXT))


def query(text: bytes | str) -> bytes:
    return message(b"Q", string(text))


def execute(portal: bytes = b"", rows_max: int = 0) -> bytes:
    return message(b"E", string(portal), int32(rows_max))


def sync() -> bytes:
    return message(b"S")


def copy_fail(reason: str) -> bytes:
    return message(b"f", string(reason))


def parse_query(raw: memoryview, rest: int = 0) -> bytes:
    """The text, or as much of it as came."""
    body = bytes(raw[HEADER:])
    if rest:
        if b"\0" in body:
            raise ProtocolError("a query goes on after its end")
        return body
    if body.find(b"\0") != len(body) - 1:
        raise ProtocolError("a query does not end where its message does")
    return body[:-1]


def parse_parse(raw: memoryview, rest: int = 0) -> Parse:
    reader = Reader(bytes(raw[HEADER:]))
    name = reader.string()
    if rest:
        text, ended, _ = reader.rest().partition(b"\0")
        return Parse(name, text, (), cut=not ended)
    text, types = reader.string(), reader.int32s()
    reader.end()
    return Parse(name, text, types)


def parse_bind(raw: memoryview, rest: int = 0) -> Bind:
    reader = Reader(bytes(raw[HEADER:]))
    portal, statement = reader.string(), reader.string()
    parameters = _values(reader, rest)
    if rest:
        return Bind(portal, statement, parameters)
    results = reader.int16s()
    reader.end()
    return Bind(portal, statement, parameters, results)


def parse_named(raw: memoryview, rest: int = 0) -> Named:
    _whole(rest)
    body = bytes(raw[HEADER:])
    if body[:1] not in (b"S", b"P") or body.find(b"\0") != len(body) - 1:
        raise ProtocolError("a message names neither a statement nor a portal")
    return Named(body[0], body[1:-1])


def parse_execute(raw: memoryview, rest: int = 0) -> bytes:
    """The name of the portal."""
    _whole(rest)
    portal, ended, rows_max = bytes(raw[HEADER:]).partition(b"\0")
    if not ended or len(rows_max) != 4:
        raise ProtocolError("a message does not name the portal that it is about")
    return portal


def parse_function_call(raw: memoryview, rest: int = 0) -> FunctionCall:
    reader = Reader(bytes(raw[HEADER:]))
    function = reader.int32()
    arguments = _values(reader, rest)
    if not rest:
        reader.int16()
        reader.end()
    return FunctionCall(function, arguments)


def _whole(rest: int) -> None:
    if rest:
        raise ProtocolError("a message that is nothing but a name is too long")


def _values(reader: Reader, rest: int) -> Values:
    formats = reader.int16s()
    values: list[bytes | None] = []
    for _ in range(reader.int16()):
        if rest and reader.left < 4:
            return Values(formats, tuple(values), cut=True)
        length = reader.int32()
        if length == 0xFFFF_FFFF:
            values.append(None)
        elif length > reader.left and rest:
            return Values(formats, (*values, reader.rest()), cut=True)
        else:
            values.append(reader.take(length))
    return Values(formats, tuple(values))


def _encode(values: Values) -> bytes:
    parts = [int16(len(values.formats)), *map(int16, values.formats), int16(len(values.values))]
    for value in values.values:
        parts += [int32(0xFFFF_FFFF)] if value is None else [int32(len(value)), value]
    return b"".join(parts)
