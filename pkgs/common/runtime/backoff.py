"""Growing, jittered pauses between attempts, so that a thousand agents do not come back in one second."""

from __future__ import annotations

import random
from collections.abc import Callable

_GROWTH = 2.0
_FLOOR = 0.1
"""A pause is at least this share of its bound: never a busy loop."""


class Backoff:
    """Pauses drawn between a tenth of the bound and the bound; the bound doubles up to `most_s`."""

    def __init__(
        self, first_s: float, most_s: float, *, draw: Callable[[float, float], float] = random.uniform
    ) -> None:
        if not 0 < first_s <= most_s:
            raise ValueError("a back-off needs 0 < first_s <= most_s")
        self._first_s = first_s
        self._most_s = most_s
        self._bound_s = first_s
        self._draw = draw

    def next(self) -> float:
        """How many seconds to wait before the next attempt."""
        bound = self._bound_s
        self._bound_s = min(bound * _GROWTH, self._most_s)
        return self._draw(bound * _FLOOR, bound)

    def reset(self) -> None:
        """Call after a success: the next pause is a short one again."""
        self._bound_s = self._first_s
