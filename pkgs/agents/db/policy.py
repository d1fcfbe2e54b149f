"""What a session may do beyond being one: only read, not see some columns, not take too much at once.

Roles fill it in; a protocol that cannot hold what is asked for must refuse the session, never ignore it.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Mask:
    """Columns whose values a session does not get to see. Patterns are globs: `*` stands for any text."""

    column: str
    table: str = "*"
    """`table` of any schema, or `schema.table`."""
    text: str = "***"
    """Instead of a text; values of other types become NULL."""


@dataclass(frozen=True, slots=True)
class Policy:
    """Restrictions of a session."""

    read_only: bool = False
    masks: tuple[Mask, ...] = ()
    mask_computed: bool = False
    """With masks: what a query computes is masked too, unless it is a number, a time or a yes or no."""
    rows_max: int = 0
    """Rows of one answer; 0 is no limit."""
    bytes_max: int = 0
    """Bytes of rows of one answer; 0 is no limit."""


EVERYTHING = Policy()
"""No restriction."""
