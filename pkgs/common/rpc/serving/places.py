"""Places that are taken by those who have not said who they are: bounded in all, and for one source."""

from __future__ import annotations

from collections import Counter

from pkgs.common.pki.source import source_of


class Places:
    """So many at once, and never more than `share` of them for one source: a stranger who takes all that
    they can get leaves places for the others (attack A54)."""

    def __init__(self, total: int, share: float) -> None:
        self._total = total
        self._per_source = max(1, int(total * share))
        self._taken: Counter[str] = Counter()

    def __len__(self) -> int:
        return self._taken.total()

    def take(self, address: str) -> bool:
        """A place for this address, to be given back with `leave`; False when there is none."""
        source = source_of(address)
        if len(self) >= self._total or self._taken[source] >= self._per_source:
            return False
        self._taken[source] += 1
        return True

    def leave(self, address: str) -> None:
        source = source_of(address)
        self._taken[source] -= 1
        if not self._taken[source]:
            del self._taken[source]
