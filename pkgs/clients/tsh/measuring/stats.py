"""Percentiles, and the schedule of an open-loop load. Pure."""

from __future__ import annotations

from collections.abc import Sequence

PERCENTILES = (25, 50, 75, 90, 95, 99, 100)


def percentile(values: Sequence[float], percent: float) -> float:
    """The smallest value that so many percent of the values do not exceed (nearest rank)."""
    if not values:
        raise ValueError("there are no values")
    ordered = sorted(values)
    rank = -(-percent * len(ordered) // 100)
    return ordered[max(int(rank), 1) - 1]


def due(index: int, rate: float) -> float:
    """Seconds from the start to the request of this number. It does not depend on how the others fare: a
    server that stalls is asked on, and what waited counts its waiting (no coordinated omission)."""
    return index / rate
