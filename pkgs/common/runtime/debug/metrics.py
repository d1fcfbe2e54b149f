"""A small registry of counters, gauges and histograms in the Prometheus text format.

A metric is made once, at start, with its label names; label values come from the code, never unbounded from
peers: a metric refuses to grow beyond `MAX_SERIES` and counts what it left out.
"""

from __future__ import annotations

import gc
import os
import resource
import threading
import time
from abc import ABC, abstractmethod
from bisect import bisect_left
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final, TypeVar

from pkgs.common.runtime.version import VERSION

MAX_SERIES: Final = 1000
CONTENT_TYPE: Final = "text/plain; version=0.0.4; charset=utf-8"
DEFAULT_BUCKETS: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)

_Key = tuple[str, ...]
_OVERFLOW: Final = "other"
_M = TypeVar("_M", bound="_Metric")


class _Metric(ABC):
    """What counters, gauges and histograms share: name, help, labels and a bound on the series."""

    kind = ""

    def __init__(self, name: str, text: str, labels: Sequence[str]) -> None:
        self.name = name
        self.help = text
        self.labels = tuple(labels)

    def _key(self, given: dict[str, str], known: int, exists: Callable[[_Key], bool]) -> _Key:
        if given.keys() != set(self.labels):
            raise ValueError(f"{self.name} takes the labels {self.labels}")
        key = tuple(str(given[label]) for label in self.labels)
        if known >= MAX_SERIES and not exists(key):
            return (_OVERFLOW,) * len(self.labels)
        return key

    def _line(self, suffix: str, key: _Key, value: float, extra: str = "") -> str:
        pairs = [f'{label}="{_escape(text)}"' for label, text in zip(self.labels, key, strict=True)]
        if extra:
            pairs.append(extra)
        shown = f"{{{','.join(pairs)}}}" if pairs else ""
        return f"{self.name}{suffix}{shown} {_number(value)}"

    @abstractmethod
    def lines(self) -> list[str]:
        """The samples, without the header."""


class Counter(_Metric):
    """Only goes up."""

    kind = "counter"

    def __init__(self, name: str, text: str, labels: Sequence[str] = ()) -> None:
        super().__init__(name, text, labels)
        self._values: dict[_Key, float] = {} if labels else {(): 0.0}

    def inc(self, by: float = 1.0, **labels: str) -> None:
        """Counts."""
        if by < 0:
            raise ValueError("a counter only goes up")
        key = self._key(labels, len(self._values), self._values.__contains__)
        self._values[key] = self._values.get(key, 0.0) + by

    def value(self, **labels: str) -> float:
        """What was counted so far; 0 for a series never counted."""
        return self._values.get(tuple(labels[label] for label in self.labels), 0.0)

    def lines(self) -> list[str]:
        return [self._line("", key, value) for key, value in sorted(self._values.items())]


class Gauge(_Metric):
    """Goes up and down."""

    kind = "gauge"

    def __init__(self, name: str, text: str, labels: Sequence[str] = ()) -> None:
        super().__init__(name, text, labels)
        self._values: dict[_Key, float] = {} if labels else {(): 0.0}

    def set(self, value: float, **labels: str) -> None:
        """Replaces the value."""
        self._values[self._key(labels, len(self._values), self._values.__contains__)] = value

    def inc(self, by: float = 1.0, **labels: str) -> None:
        """Adds."""
        key = self._key(labels, len(self._values), self._values.__contains__)
        self._values[key] = self._values.get(key, 0.0) + by

    def dec(self, by: float = 1.0, **labels: str) -> None:
        """Takes away."""
        self.inc(-by, **labels)

    def value(self, **labels: str) -> float:
        """The value now; 0 for a series never set."""
        return self._values.get(tuple(labels[label] for label in self.labels), 0.0)

    def lines(self) -> list[str]:
        return [self._line("", key, value) for key, value in sorted(self._values.items())]


class _GaugeOf(_Metric):
    """A gauge read when it is asked for."""

    kind = "gauge"

    def __init__(self, name: str, text: str, read: Callable[[], float], kind: str) -> None:
        super().__init__(name, text, ())
        self.kind = kind
        self._read = read

    def lines(self) -> list[str]:
        return [self._line("", (), self._read())]


class Histogram(_Metric):
    """Counts observations by size."""

    kind = "histogram"

    def __init__(
        self, name: str, text: str, labels: Sequence[str] = (), buckets: Sequence[float] = DEFAULT_BUCKETS
    ) -> None:
        super().__init__(name, text, labels)
        if list(buckets) != sorted(set(buckets)) or not buckets:
            raise ValueError("buckets must rise")
        self._bounds = tuple(buckets)
        self._counts: dict[_Key, list[int]] = {}
        self._sums: dict[_Key, float] = {}

    def observe(self, value: float, **labels: str) -> None:
        """Counts one observation."""
        key = self._key(labels, len(self._counts), self._counts.__contains__)
        counts = self._counts.setdefault(key, [0] * (len(self._bounds) + 1))
        counts[bisect_left(self._bounds, value)] += 1
        self._sums[key] = self._sums.get(key, 0.0) + value

    def lines(self) -> list[str]:
        lines = []
        for key, counts in sorted(self._counts.items()):
            total = 0
            for bound, count in zip((*self._bounds, float("inf")), counts, strict=True):
                total += count
                lines.append(self._line("_bucket", key, total, f'le="{_number(bound)}"'))
            lines.append(self._line("_sum", key, self._sums[key]))
            lines.append(self._line("_count", key, total))
        return lines


class Metrics:
    """The metrics of one process. Asking twice for a name gives the same metric."""

    def __init__(self) -> None:
        self._metrics: dict[str, _Metric] = {}

    def counter(self, name: str, text: str, labels: Sequence[str] = ()) -> Counter:
        """A counter of this name."""
        return self._add(Counter(name, text, labels))

    def gauge(self, name: str, text: str, labels: Sequence[str] = ()) -> Gauge:
        """A gauge of this name."""
        return self._add(Gauge(name, text, labels))

    def gauge_of(self, name: str, text: str, read: Callable[[], float], *, kind: str = "gauge") -> None:
        """A value read at the moment it is asked for."""
        self._add(_GaugeOf(name, text, read, kind))

    def histogram(
        self, name: str, text: str, labels: Sequence[str] = (), buckets: Sequence[float] = DEFAULT_BUCKETS
    ) -> Histogram:
        """A histogram of this name."""
        return self._add(Histogram(name, text, labels, buckets))

    def render(self) -> str:
        """All of them in the Prometheus text format."""
        lines: list[str] = []
        for name, metric in sorted(self._metrics.items()):
            lines.append(f"# HELP {name} {_escape_help(metric.help)}")
            lines.append(f"# TYPE {name} {metric.kind}")
            lines += metric.lines()
        return "\n".join(lines) + "\n"

    def _add(self, metric: _M) -> _M:
        known = self._metrics.setdefault(metric.name, metric)
        if type(known) is not type(metric) or known.labels != metric.labels:
            raise ValueError(f"{metric.name} exists already as another metric")
        return known


def add_process_metrics(metrics: Metrics, service: str, started_at: float) -> None:
    """What every process tells of itself."""
    metrics.gauge(
        "teleport_build_info", "Always 1; the labels tell the version.", ("version", "service")
    ).set(1, version=VERSION, service=service)
    metrics.gauge_of("process_start_time_seconds", "Start of the process, Unix time.", lambda: started_at)
    metrics.gauge_of("process_cpu_seconds_total", "CPU seconds used.", time.process_time, kind="counter")
    metrics.gauge_of("process_resident_memory_bytes", "Resident memory.", _resident_bytes)
    metrics.gauge_of("process_virtual_memory_bytes", "Virtual memory.", _virtual_bytes)
    metrics.gauge_of("process_open_fds", "Open file descriptors.", _open_descriptors)
    metrics.gauge_of(
        "process_max_fds", "Most file descriptors.", lambda: resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    )
    metrics.gauge_of("process_threads", "Threads.", threading.active_count)
    metrics.gauge_of(
        "python_gc_objects_tracked", "Objects of the youngest generation.", lambda: gc.get_count()[0]
    )
    metrics.gauge_of(
        "python_gc_collections_total",
        "Garbage collections of all generations.",
        lambda: sum(int(entry["collections"]) for entry in gc.get_stats()),
        kind="counter",
    )


def _statm(column: int) -> int:
    return int(Path("/proc/self/statm").read_text().split()[column]) * os.sysconf("SC_PAGE_SIZE")


def _resident_bytes() -> float:
    return _statm(1)


def _virtual_bytes() -> float:
    return _statm(0)


def _open_descriptors() -> float:
    return len(os.listdir("/proc/self/fd"))  # noqa: PTH208 - names only


def _number(value: float) -> str:
    if value == float("inf"):
        return "+Inf"
    return str(int(value)) if float(value).is_integer() else repr(float(value))


def _escape(text: str) -> str:
    return text.replace("\\", "\\\\").replace("\n", "\\n").replace('"', '\\"')


def _escape_help(text: str) -> str:
    return text.replace("\\", "\\\\").replace("\n", "\\n")
