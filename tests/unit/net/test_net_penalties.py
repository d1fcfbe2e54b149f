"""Rate limits and penalties: how they fill, wear off, and stay bounded."""

from __future__ import annotations

from pkgs.common.net.penalties import Penalties, PenaltyLimits, RateLimit, source_of


class FakeTime:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def test_a_burst_passes_then_the_average_holds() -> None:
    time = FakeTime()
    limit = RateLimit(60, 3, monotonic=time)
    assert [limit.allow("a") for _ in range(4)] == [True, True, True, False]
    assert limit.allow("b")
    assert 0 < limit.retry_after_s("a") <= 1.0
    time.now += 1.01
    assert limit.allow("a")
    assert not limit.allow("a")


def test_the_table_forgets_the_oldest_source() -> None:
    limit = RateLimit(1, 1, monotonic=FakeTime(), keys_max=2)
    assert limit.allow("a")
    assert limit.allow("b")
    assert limit.allow("c")
    assert limit.allow("a")
    assert not limit.allow("c")


def test_a_slip_costs_nothing_and_insisting_costs_more() -> None:
    time = FakeTime()
    penalties = Penalties(PenaltyLimits(threshold_s=15, most_s=100), monotonic=time)
    for _ in range(2):
        penalties.punish("192.0.2.1", 5)
    assert penalties.allow("192.0.2.1")
    penalties.punish("192.0.2.1", 5)
    assert not penalties.allow("192.0.2.1")
    assert penalties.retry_after("192.0.2.1") == 15
    penalties.punish("192.0.2.1", 5)
    assert penalties.retry_after("192.0.2.1") == 25
    assert penalties.allow("192.0.2.2")
    for _ in range(50):
        penalties.punish("192.0.2.1", 50)
    assert penalties.retry_after("192.0.2.1") == 100
    time.now += 101
    assert penalties.allow("192.0.2.1")


def test_a_v6_neighbour_is_the_same_source() -> None:
    assert source_of("2001:db8::1") == source_of("2001:db8::ffff:1")
    assert source_of("2001:db8::1") != source_of("2001:db8:0:1::1")
    assert source_of("::ffff:192.0.2.1") == source_of("192.0.2.1") == "192.0.2.1"


def test_penalties_stay_bounded() -> None:
    penalties = Penalties(PenaltyLimits(threshold_s=1), monotonic=FakeTime(), sources_max=10)
    for number in range(100):
        penalties.punish(f"192.0.2.{number}", 10)
    assert penalties.allow("192.0.2.1")
    assert not penalties.allow("192.0.2.99")
