"""One measured figure with its reference and its goal, and the table of them."""

from __future__ import annotations

import json
import os
import statistics
import sys
from dataclasses import asdict, dataclass, field
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Row:
    """A figure; `ratio` is ours over the reference where there is one."""

    measure: str
    ours: float
    unit: str
    reference: float | None = None
    reference_name: str = ""
    goal: str = ""
    met: bool | None = None
    note: str = ""
    load: float = field(default_factory=lambda: os.getloadavg()[0])
    """The machine's load average of the last minute when the figure was made; what else ran is in it."""

    @property
    def ratio(self) -> float | None:
        return self.ours / self.reference if self.reference else None


def percentile(values: list[float], share: float) -> float:
    """The value below which `share` (0..1) of the values lie."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]


def median(values: list[float]) -> float:
    return statistics.median(values)


def table(rows: list[Row]) -> str:
    """Text, one line a figure."""
    head = ("measure", "ours", "reference", "ratio", "goal", "load", "met")
    lines = [head]
    for row in rows:
        lines.append(
            (
                row.measure,
                f"{row.ours:,.3g} {row.unit}",
                f"{row.reference:,.3g} {row.reference_name}" if row.reference is not None else "-",
                f"{row.ratio:.2f}" if row.ratio is not None else "-",
                row.goal or "-",
                f"{row.load:.1f}",
                {True: "yes", False: "NO", None: ""}[row.met] + (f" ({row.note})" if row.note else ""),
            )
        )
    widths = [max(len(line[i]) for line in lines) for i in range(len(head))]
    return "\n".join(
        "  ".join(c.ljust(w) for c, w in zip(line, widths, strict=True)).rstrip() for line in lines
    )


def publish(rows: list[Row], path: Path | None) -> None:
    """Print the table; write JSON beside it when a path is given."""
    print(table(rows))
    if path is not None:
        path.write_text(json.dumps([{**asdict(r), "ratio": r.ratio} for r in rows], indent=2) + "\n")
        print(f"written to {path}", file=sys.stderr)
