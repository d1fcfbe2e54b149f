"""How much one source may ask for, and how long it must wait after doing wrong.

A source is an IPv4 address or an IPv6 /64, since whoever has one address of a /64 has them all. Both
tables are bounded: a flood of sources forgets the oldest rather than growing.
"""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass

from pkgs.common.net import limits
from pkgs.common.pki.source import source_of as source_of


class RateLimit:
    """A token bucket per key: `per_minute` on average, `burst` at once."""

    def __init__(
        self,
        per_minute: float,
        burst: int,
        *,
        monotonic: Callable[[], float] = time.monotonic,
        keys_max: int = limits.SOURCES_MAX,
    ) -> None:
        self._per_s = per_minute / 60.0
        self._burst = float(burst)
        self._now = monotonic
        self._keys_max = keys_max
        self._buckets: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def allow(self, key: str) -> bool:
        """Take one token if there is one."""
        now = self._now()
        level, at = self._buckets.pop(key, (self._burst, now))
        level = min(self._burst, level + (now - at) * self._per_s)
        allowed = level >= 1.0
        self._buckets[key] = (level - 1.0 if allowed else level, now)
        while len(self._buckets) > self._keys_max:
            self._buckets.popitem(last=False)
        return allowed

    def retry_after_s(self, key: str) -> float:
        """Seconds until the next `allow` would succeed."""
        level, at = self._buckets.get(key, (self._burst, self._now()))
        level = min(self._burst, level + (self._now() - at) * self._per_s)
        return 0.0 if level >= 1.0 else (1.0 - level) / self._per_s


@dataclass(frozen=True, slots=True)
class PenaltyLimits:
    threshold_s: float = 15.0
    """Penalties below this sum are remembered but not enforced: a slip costs nothing."""
    most_s: float = 600.0


class Penalties:
    """Seconds a source has to wait, summed over what it did wrong; they wear off as time passes.

    Each wrong while one is already being served counts double, so that insisting makes it longer."""

    def __init__(
        self,
        limits_: PenaltyLimits | None = None,
        *,
        monotonic: Callable[[], float] = time.monotonic,
        sources_max: int = limits.SOURCES_MAX,
    ) -> None:
        self._limits = limits_ or PenaltyLimits()
        self._now = monotonic
        self._sources_max = sources_max
        self._until: OrderedDict[str, float] = OrderedDict()
        self._enforced: set[str] = set()

    def punish(self, address: str, seconds: float) -> None:
        source = source_of(address)
        now = self._now()
        owed = max(0.0, self._until.pop(source, now) - now)
        owed = min(self._limits.most_s, owed + seconds * (2 if source in self._enforced and owed else 1))
        self._until[source] = now + owed
        if owed >= self._limits.threshold_s:
            self._enforced.add(source)
        while len(self._until) > self._sources_max:
            forgotten, _ = self._until.popitem(last=False)
            self._enforced.discard(forgotten)

    def allow(self, address: str) -> bool:
        return self.retry_after(address) <= 0.0

    def retry_after(self, address: str) -> float:
        """Seconds this source still has to wait; 0 when it may come."""
        source = source_of(address)
        left = self._until.get(source, 0.0) - self._now()
        if left <= 0.0:
            self._until.pop(source, None)
            self._enforced.discard(source)
            return 0.0
        return left if source in self._enforced else 0.0
