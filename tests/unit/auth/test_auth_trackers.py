"""The memory of live sessions: who may tell of which, how long it holds, who is given orders."""

from __future__ import annotations

import uuid
from typing import Any

import msgspec
import pytest

from pkgs.auth.sessions import limits
from pkgs.auth.sessions.trackers import Trackers
from pkgs.common.api.sessions import Presence, SessionOrder, SessionTracker
from pkgs.common.errors import DeniedError, InputError, LimitExceededError, UnavailableError

ONE, OTHER = str(uuid.uuid4()), str(uuid.uuid4())


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


def tracker(**fields: Any) -> SessionTracker:
    values: dict[str, Any] = {
        "session_id": str(uuid.uuid4()),
        "state": "running",
        "created": 1.0,
        "host_user": "alice",
        "owner_cluster": "c",
        "host_roles": [],
        "login": "root",
        "cluster_name": "c",
        "target_hostname": "n",
        **fields,
    }
    return SessionTracker(**values)


def test_a_report_is_the_whole_truth_of_its_host() -> None:
    trackers = Trackers(Clock())
    old, new, elsewhere = tracker(created=3.0), tracker(created=2.0), tracker(created=1.0)
    trackers.report(ONE, [old])
    trackers.report(OTHER, [elsewhere])
    trackers.report(ONE, [new])
    assert [t.session_id for t in trackers.all()] == [elsewhere.session_id, new.session_id]
    trackers.report(ONE, [])
    assert trackers.find(new.session_id) is None


def test_a_report_in_parts_counts_when_the_last_is_there() -> None:
    trackers = Trackers(Clock())
    first, second = tracker(), tracker()
    trackers.report(ONE, [first], last=False)
    assert trackers.all() == []
    trackers.report(ONE, [second], first=False)
    assert len(trackers.all()) == 2
    trackers.report(ONE, [first], last=False)
    trackers.report(ONE, [second])
    assert [t.session_id for t in trackers.all()] == [second.session_id]


def test_a39_the_host_is_the_caller_and_no_session_of_another_is_taken() -> None:
    trackers = Trackers(Clock())
    mine = tracker(host_id=OTHER, expires=1e12)
    trackers.report(ONE, [mine])
    found = trackers.find(mine.session_id)
    assert found is not None
    assert (found.host_id, found.expires) == (ONE, 1000.0 + limits.EXPIRES_S)
    with pytest.raises(DeniedError):
        trackers.report(OTHER, [mine])
    assert trackers.find(mine.session_id) == found


def test_a_host_that_is_silent_has_no_sessions_after_a_while() -> None:
    clock = Clock()
    trackers = Trackers(clock)
    told = tracker()
    trackers.report(ONE, [told])
    clock.now += limits.EXPIRES_S - 1
    assert trackers.find(told.session_id)
    clock.now += 2
    assert trackers.find(told.session_id) is None
    assert trackers.all() == []
    trackers.report(OTHER, [told])


@pytest.mark.parametrize(
    "bad",
    [
        tracker(session_id="../../x"),
        tracker(reason="r" * (limits.MAX_TEXT + 1)),
        tracker(host_roles=["r"] * (limits.MAX_NAMES + 1)),
        tracker(invited=["r" * (limits.MAX_TEXT + 1)]),
        tracker(participants=[Presence(id="i", user="u" * 5000, cluster="c", mode="peer", last_active=1.0)]),
    ],
    ids=["id", "reason", "roles", "invited", "participant"],
)
def test_a60_what_is_too_long_or_no_session_is_refused(bad: SessionTracker) -> None:
    trackers = Trackers(Clock())
    with pytest.raises(InputError):
        trackers.report(ONE, [bad])
    assert trackers.all() == []


def test_a_host_has_a_bounded_number_of_sessions_also_in_parts() -> None:
    trackers = Trackers(Clock())
    one = tracker()
    many = [msgspec.structs.replace(one, session_id=str(uuid.uuid4())) for _ in range(1001)]
    trackers.report(ONE, many, last=False)
    with pytest.raises(LimitExceededError):
        trackers.report(ONE, many, first=False, last=False)
    trackers.report(ONE, [], first=False)
    assert trackers.all() == []


def test_orders_reach_those_who_listen() -> None:
    trackers = Trackers(Clock())
    order = SessionOrder(session_id=str(uuid.uuid4()))
    with pytest.raises(UnavailableError):
        trackers.order(ONE, order)
    queue = trackers.listen(ONE)
    trackers.order(ONE, order)
    assert queue.get_nowait() == order
    for _ in range(limits.MAX_ORDERS):
        trackers.order(ONE, order)
    with pytest.raises(UnavailableError):
        trackers.order(ONE, order)
    for _ in range(limits.MAX_STREAMS_PER_HOST - 1):
        trackers.listen(ONE)
    with pytest.raises(LimitExceededError):
        trackers.listen(ONE)
    trackers.forget(ONE, queue)
    trackers.listen(ONE)
