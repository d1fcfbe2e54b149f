"""Percentiles, and when requests are due."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pkgs.clients.tsh.measuring.stats import PERCENTILES, due, percentile


@pytest.mark.parametrize(
    ("percent", "value"), [(25, 1), (50, 2), (75, 3), (90, 4), (99, 4), (100, 4), (1, 1)]
)
def test_nearest_rank(percent: float, value: float) -> None:
    assert percentile([4, 2, 3, 1], percent) == value


@given(st.lists(st.floats(0, 1e6), min_size=1))
def test_so_many_values_are_no_larger(values: list[float]) -> None:
    found = [percentile(values, percent) for percent in PERCENTILES]
    assert found == sorted(found) and found[-1] == max(values)
    for percent, value in zip(PERCENTILES, found, strict=True):
        assert sum(other <= value for other in values) * 100 >= percent * len(values)


def test_the_schedule_depends_on_nothing_but_the_rate() -> None:
    assert [due(index, 4) for index in range(5)] == [0, 0.25, 0.5, 0.75, 1]
