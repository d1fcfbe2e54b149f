"""Bounds on CPU time that mean the same on every machine.

A bound in seconds fails on a slow or busy machine whatever the code does. Here a bound is a number of
seconds on the machine of `REFERENCE_S`; elsewhere it grows with what a fixed piece of work takes there at
that moment, and the best of three tries counts."""

from __future__ import annotations

import gc
import time
from collections.abc import Callable

REFERENCE_S = 0.03
"""CPU seconds of `_fixed_work` on the machine that the bounds were set on."""


def cpu_s(work: Callable[[], object]) -> float:
    """CPU seconds of one run of `work`. What earlier tests left in memory is not collected meanwhile."""
    gc.collect()
    gc.disable()
    try:
        begin = time.process_time()
        work()
        return time.process_time() - begin
    finally:
        gc.enable()


def _fixed_work() -> None:
    seen: dict[int, str] = {}
    for number in range(200_000):
        seen[number % 1000] = str(number)


def assert_takes_under(seconds: float, work: Callable[[], object], *, tries: int = 3) -> None:
    """Run `work` until a run stays under `seconds` of CPU time. AssertionError when none of `tries` does."""
    took = []
    for _ in range(tries):
        slowness = max(1.0, cpu_s(_fixed_work) / REFERENCE_S)
        took.append(cpu_s(work) / slowness)
        if took[-1] < seconds:
            return
    raise AssertionError(f"took {', '.join(f'{one:.2f}' for one in took)} s, bound {seconds} s")
