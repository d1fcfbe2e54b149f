"""How lists are shown: the formats and the table that several verbs share."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from pkgs.common.output.argv import Flag
from pkgs.common.output.resources import write_list
from pkgs.common.output.table import render, terminal_width
from pkgs.common.resources.kinds import AccessList

FORMAT = Flag("format", "Output format", default="yaml", choices=("yaml", "json", "text"), metavar="FORMAT")
HEADERS = (
    "ID",
    "Title",
    "Review Frequency",
    "Review Day Of Month",
    "Granted Roles",
    "Granted Traits",
)
_FREQUENCY = {"1": "1 month", "3": "3 months", "6": "6 months", "12": "1 year"}


def write_lists(lists: Sequence[AccessList], format: str) -> None:
    """Print them."""
    if format != "text":
        write_list(list(lists), format)
    elif not lists:
        sys.stdout.write("No access lists found\n")
    else:
        sys.stdout.write(render(HEADERS, [row(found) for found in lists], width=terminal_width()))


def row(access_list: AccessList) -> tuple[str, ...]:
    spec = access_list.spec
    recurrence = spec.audit.recurrence
    reviewed = spec.type == ""
    return (
        access_list.name,
        spec.title,
        _FREQUENCY.get(recurrence.frequency, recurrence.frequency) if reviewed else "none",
        recurrence.day_of_month if reviewed else "none",
        ",".join(spec.grants.roles),
        traits_text(spec.grants.traits),
    )


def traits_text(traits: dict[str, list[str]]) -> str:
    return ",".join(f"{name}={value}" for name, values in sorted(traits.items()) for value in values)
