"""The prepared statements of a session, as far as the audit log needs them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from pkgs.agents.db.mysql import limits
from pkgs.agents.db.record.excerpt import MARK, excerpt, readable
from pkgs.common.dbwire.mysql.binary import parse_execute

_LAST = 0xFFFFFFFF
"""Clients of MariaDB mean the statement prepared last by it, before they know its number."""
_NO_PARAMETERS = 10
"""Bytes of an execution without any."""
_IN_PARTS = "(sent in parts)"


@dataclass(slots=True)
class _Known:
    text: str
    parameters: int
    types: tuple[int, ...] = ()
    in_parts: set[int] = field(default_factory=set)


class Prepared:
    def __init__(self) -> None:
        self._known: dict[int, _Known] = {}
        self._newest = 0
        self.coming: Callable[[], str | None] = lambda: None
        """Text of the statement that the server was asked to prepare last and has not answered; None: it has
        answered all."""

    def add(self, statement: int, text: str, parameters: int) -> None:
        """The server has prepared it under this number."""
        if len(self._known) >= limits.PREPARED_MAX:
            # Only its text and parameters are missing later.
            self._known.pop(next(iter(self._known)))
        self._known[statement] = _Known(excerpt(text, limits.PREPARED_KEPT), parameters)
        self._newest = statement

    def failed(self) -> None:
        """The server could not prepare one, and knows no last one any more."""
        self._newest = 0

    def number(self, statement: int) -> int:
        return self._newest if statement == _LAST and self.coming() is None else statement

    def text(self, statement: int) -> str:
        if statement == _LAST and (coming := self.coming()) is not None:
            return excerpt(coming, limits.PREPARED_KEPT)
        known = self._known.get(self.number(statement))
        return known.text if known else ""

    def part(self, statement: int, parameter: int) -> None:
        """A parameter comes, or goes on, before the execution."""
        known = self._known.get(self.number(statement))
        if known and parameter < known.parameters:
            known.in_parts.add(parameter)

    def execution(self, payload: bytes, statement: int) -> tuple[str, ...]:
        """What an execution gives as parameters, cut for the audit log. The payload may be cut too."""
        known = self._known.get(self.number(statement))
        if known is None:
            # How many parameters there are, and where, only the server knows.
            return (MARK,) if len(payload) > _NO_PARAMETERS else ()
        try:
            found = parse_execute(payload, known.parameters, known.types, frozenset(known.in_parts))
        finally:
            known.in_parts.clear()
        known.types = found.types
        shown = [
            _IN_PARTS if value is None else _shown(value) for value in found.values[: limits.PARAMETERS_KEPT]
        ]
        if len(shown) < known.parameters:
            shown.append(MARK)
        return tuple(shown)

    def reset(self, statement: int) -> None:
        if known := self._known.get(self.number(statement)):
            known.in_parts.clear()

    def close(self, statement: int) -> None:
        self._known.pop(self.number(statement), None)

    def clear(self) -> None:
        """The server has forgotten all of them."""
        self._known.clear()


def _shown(value: str | bytes) -> str:
    return value if isinstance(value, str) else readable(value, limits.PARAMETER_KEPT)
