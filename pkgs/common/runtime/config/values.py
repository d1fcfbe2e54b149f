"""Types and small readings shared by the sections of `teleport.yaml`."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import msgspec


class Problem(NamedTuple):
    """A value that parses but is not allowed: where, what was found, what would be right."""

    path: str
    found: str
    allowed: str


class Section(msgspec.Struct, kw_only=True, frozen=True, forbid_unknown_fields=True):
    """Base of every section: unknown keys are refused with a suggestion."""

    def __repr__(self) -> str:
        """Without values: some are secrets, and a repr ends up in logs and tracebacks (attack A65)."""
        return f"{type(self).__name__}(...)"

    def problems(self, path: str) -> Iterator[Problem]:
        """Yields every value that has the right type but no sense."""
        yield from ()


def as_list(value: str | list[str]) -> tuple[str, ...]:
    """A field that takes a string or a list of strings, as a tuple without empty entries."""
    values = [value] if isinstance(value, str) else value
    return tuple(item.strip() for item in values if item.strip())
