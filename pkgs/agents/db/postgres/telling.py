"""What the audit log reads of a client's messages: cut to a length, passwords replaced."""

from __future__ import annotations

from pkgs.agents.db.engine import Detail, Statement
from pkgs.agents.db.postgres import limits
from pkgs.agents.db.postgres.secrets import mask
from pkgs.agents.db.record.excerpt import MARK
from pkgs.common.dbwire.postgres.frontend import BINARY, STATEMENT, Bind, FunctionCall, Named, Parse, Values
from pkgs.common.dbwire.postgres.values import binary_to_text

NULL = "NULL"


def statement(text: bytes, *, cut: bool) -> Statement:
    kept, cut = _text(text, cut)
    return Statement(kept, cut=cut)


def parse(message: Parse) -> Detail:
    text, cut = _text(message.text, message.cut)
    query = text + MARK if cut else text
    return Detail("postgres.statements.parse", (("statement_name", _name(message.name)), ("query", query)))


def bind(message: Bind, types: tuple[int, ...]) -> Detail:
    names = (("portal_name", _name(message.portal)), ("statement_name", _name(message.statement)))
    parameters = _values(message.parameters, types)
    return Detail("postgres.statements.bind", (*names, ("parameters", parameters)))


def execute(portal: bytes) -> Detail:
    return Detail("postgres.statements.execute", (("portal_name", _name(portal)),))


def close(message: Named) -> Detail:
    field = "statement_name" if message.what == STATEMENT else "portal_name"
    return Detail("postgres.statements.close", ((field, _name(message.name)),))


def function(message: FunctionCall) -> Detail:
    arguments = _values(message.arguments, ())
    fields = (("function_oid", message.function), ("function_args", arguments))
    return Detail("postgres.function", fields)


def _text(raw: bytes, cut: bool) -> tuple[str, bool]:
    text = raw[: limits.TEXT_KEPT].decode("utf-8", "backslashreplace")
    shown = mask(text)
    return shown.text, cut or len(raw) > limits.TEXT_KEPT or not shown.sure


def _name(raw: bytes) -> str:
    return raw[: limits.PARAMETER_KEPT].decode("utf-8", "backslashreplace")


def _values(values: Values, types: tuple[int, ...]) -> tuple[str, ...]:
    told: list[str] = []
    left = limits.TEXT_KEPT
    for index, value in enumerate(values.values):
        if index >= limits.PARAMETERS_KEPT or left <= 0:
            return (*told, MARK)
        last_is_cut = values.cut and index == len(values.values) - 1
        binary = values.format(index) == BINARY
        text = _value(value, types[index] if index < len(types) else 0, binary=binary, cut=last_is_cut)
        told.append(text)
        left -= len(text)
    return (*told, MARK) if values.cut else tuple(told)


def _value(value: bytes | None, type_oid: int, *, binary: bool, cut: bool) -> str:
    if value is None:
        return NULL
    kept = value[: limits.PARAMETER_KEPT]
    cut = cut or len(kept) < len(value)
    text = binary_to_text(kept, type_oid) if binary else kept.decode("utf-8", "backslashreplace")
    return text + MARK if cut else text
