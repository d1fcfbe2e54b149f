"""Columns whose values a session does not get to see: which they are, and rows without them.

A RowDescription tells for each column the table's oid and the column's number there, whatever the query calls
it. Which oids and numbers the rules mean is asked once, on the session's own connection before it is the
client's. What a query computes has no table: a rule finds it by its name alone, and so it finds columns of
tables that were made after the question. What that leaves open is in docs/database-postgres.md.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass

from pkgs.agents.db.postgres.sql import Kind, statements
from pkgs.common.access.matching.patterns import compile_glob
from pkgs.common.dbwire.postgres import values
from pkgs.common.dbwire.postgres.backend import Column, Report
from pkgs.common.dbwire.postgres.fields import int32, message
from pkgs.common.dbwire.postgres.frames import HEADER
from pkgs.common.errors import InputError, ProtocolError
from pkgs.common.resources.role import DbMask

_HARMLESS = frozenset((16, 20, 21, 23, 26, 700, 701, 1700, 1082, 1083, 1114, 1184, 1186, 1266, 2278))
"""Types that `mask_computed` lets pass: boolean, numbers, dates and times, void."""
_DATA_EXCEPTION = "22"
_DIVISION_BY_ZERO = "22012"
"""SQLSTATE class whose messages quote values, all but this one."""
_QUOTING = frozenset(map(ord, "DWq"))
"""Detail, context and inner query of an error quote values as well."""
_NULL = 0xFFFF_FFFF
"""Instead of a length."""
_NOT_DESCRIBED = "the server sent a row of other columns than it described"
_int16 = struct.Struct(">H").unpack_from
_int32 = struct.Struct(">I").unpack_from


@dataclass(frozen=True, slots=True)
class Plan:
    """For the rows of one answer: what stands instead of each column's value, as it is in a row: with its
    length. None for a column that is shown; empty when all are."""

    columns: tuple[bytes | None, ...]

    def apply(self, raw: memoryview) -> memoryview | bytes:
        """The row without the values; NULL stays. Raises ProtocolError for one that was not described so."""
        if not self.columns:
            return raw
        end = len(raw)
        pos = begin = HEADER + 2
        parts: list[bytes | memoryview] = []
        try:
            if _int16(raw, HEADER)[0] != len(self.columns):
                raise ProtocolError(_NOT_DESCRIBED)
            for instead in self.columns:
                (length,) = _int32(raw, pos)
                after = pos + 4 if length == _NULL else pos + 4 + length
                if instead is not None and length != _NULL:
                    parts += (raw[begin:pos], instead)
                    begin = after
                pos = after
        except struct.error as exc:
            raise ProtocolError(_NOT_DESCRIBED) from exc
        if pos != end:
            raise ProtocolError(_NOT_DESCRIBED)
        return message(b"D", raw[HEADER : HEADER + 2], *parts, raw[begin:])


class Masking:
    """The rules of one session, with what they mean in its database."""

    def __init__(
        self, rules: Sequence[DbMask], *, computed: bool, catalog: Sequence[Sequence[bytes | None]]
    ) -> None:
        """`catalog`: the rows that `lookup` asks for."""
        self._rules = tuple(rules)
        self._names = tuple(compile_glob(rule.column, ".*") for rule in rules)
        self._computed = computed
        self._newest = 0
        self._known: dict[tuple[int, int], int] = {}
        try:
            for table, attribute, rule in catalog:
                if attribute is None:
                    self._newest = int(table or 0)
                else:
                    self._known[int(table or 0), int(attribute)] = int(rule or 0)
        except ValueError as exc:
            raise ProtocolError("the server's answer about its columns does not parse") from exc
        self._rows = {table: rule for (table, _), rule in self._known.items()}

    def plan(self, columns: Sequence[Column]) -> Plan:
        found = ((column, self._rule(column)) for column in columns)
        instead = tuple(_instead(column, rule) if rule else None for column, rule in found)
        return Plan(instead if any(instead) else ())

    def _rule(self, column: Column) -> DbMask | None:
        known = self._known.get((column.table, column.attribute))
        if known is None and not column.attribute:
            # The table's whole row as one value.
            known = self._rows.get(column.table)
        if known is not None:
            return self._rules[known]
        if 0 < column.table <= self._newest:
            return None
        name = column.name.decode("utf-8", "replace")
        for rule, pattern in zip(self._rules, self._names, strict=True):
            if pattern.fullmatch(name):
                return rule
        computed = self._computed and not column.table and column.type not in _HARMLESS
        return self._rules[0] if computed else None


def _instead(column: Column, rule: DbMask) -> bytes:
    if column.type not in (values.TEXT, values.VARCHAR, values.BPCHAR):
        return int32(_NULL)
    text = rule.text.encode()
    return int32(len(text)) + text


def lookup(rules: Sequence[DbMask]) -> str:
    """The query for `Masking`'s catalog: table, column, number of the rule; once the newest table and NULLs.

    Every name says its schema, for the client may have chosen a search path with operators of its own."""
    cases = " ".join(f"WHEN {_matches(rule)} THEN {index}" for index, rule in enumerate(rules))
    return _LOOKUP.format(cases=cases)


_LOOKUP = """
SELECT * FROM (
  SELECT a.attrelid, a.attnum::pg_catalog.int4 AS attnum, CASE {cases} END AS rule
  FROM pg_catalog.pg_attribute a
  JOIN pg_catalog.pg_class c ON c.oid OPERATOR(pg_catalog.=) a.attrelid
  JOIN pg_catalog.pg_namespace n ON n.oid OPERATOR(pg_catalog.=) c.relnamespace
  WHERE a.attnum OPERATOR(pg_catalog.>) 0 AND NOT a.attisdropped
) found WHERE rule IS NOT NULL
UNION ALL SELECT pg_catalog.max(oid), NULL, NULL FROM pg_catalog.pg_class
"""


def _matches(rule: DbMask) -> str:
    schema, dot, table = rule.table.rpartition(".")
    parts = [("a.attname", rule.column), ("c.relname", table), ("n.nspname", schema if dot else "*")]
    return (
        " AND ".join(
            f"{name}::pg_catalog.text OPERATOR(pg_catalog.~~) {_like(glob)}"
            for name, glob in parts
            if glob != "*"
        )
        or "true"
    )


def _like(glob: str) -> str:
    """A literal that no setting reads in another way."""
    pattern = "".join({"*": "%", "%": r"\%", "_": r"\_", "\\": r"\\"}.get(char, char) for char in glob)
    literal = pattern.replace("\\", "\\\\").replace("'", "''").replace("\0", "")
    return f"E'{literal}'::pg_catalog.text"


def refusal(text: bytes) -> str:
    """Why a session with masks may not send this: it would bring values out in no row. Empty when it may."""
    try:
        found = statements(text)
    except InputError as exc:
        return f"{exc.message}, and cannot be judged"
    for tokens in found:
        words = [token.text for token in tokens if token.kind is Kind.WORD]
        if words[:1] == ["copy"] and "to" in words:
            return "COPY TO would carry its columns; use SELECT"
        if words[:1] == ["do"]:
            return "DO would show them in messages; use SELECT"
    return ""


def without_values(report: Report) -> Report:
    """An error or notice that quotes nothing out of a row."""
    hidden = b"the value is hidden in this session"
    quotes = report.get("C").startswith(_DATA_EXCEPTION) and report.get("C") != _DIVISION_BY_ZERO
    return Report(
        tuple(
            (letter, hidden if letter == ord("M") and quotes else value)
            for letter, value in report.fields
            if letter not in _QUOTING
        )
    )
