import msgspec
import pytest

from pkgs.common.api.audit import StoredEvent
from pkgs.common.events import codes
from pkgs.common.events.chain import GENESIS, canonical, link, verify
from pkgs.common.events.format import new_event
from pkgs.common.events.types import Event


def log(count: int = 10) -> list[StoredEvent]:
    stored, head = [], GENESIS
    for seq in range(1, count + 1):
        event = new_event(codes.ROLE_CREATED, cluster_name="alpha", now=1e9 + seq, name=f"role-{seq}")
        head = link(head, event)
        stored.append(StoredEvent(seq=seq, event=event, hash=head))
    return stored


def edited(item: StoredEvent, **fields) -> StoredEvent:
    return msgspec.structs.replace(item, event=msgspec.structs.replace(item.event, fields=fields))


def test_an_untouched_log_verifies_and_names_its_head():
    stored = log()
    verdict = verify(stored)
    assert (verdict.ok, verdict.events, verdict.head) == (True, 10, stored[-1].hash)
    assert verify([]).ok


@pytest.mark.parametrize(
    ("damage", "bad"),
    [
        (lambda s: s[:4] + s[5:], 5),
        (lambda s: [*s[:4], s[5], s[4], *s[6:]], 5),
        (lambda s: [*s[:4], edited(s[4], name="root"), *s[5:]], 5),
        (lambda s: [*s[:4], msgspec.structs.replace(s[4], hash="0" * 64), *s[5:]], 5),
        (lambda s: [*s[:4], msgspec.structs.replace(s[4], hash="nonsense"), *s[5:]], 5),
        (lambda s: s[1:], 1),
        (
            lambda s: s[:4] + [msgspec.structs.replace(i, seq=i.seq - 1) for i in s[5:]],
            5,
        ),
    ],
    ids=["deleted", "reordered", "edited", "hash-replaced", "hash-garbage", "first-gone", "renumbered"],
)
def test_a62_the_first_bad_event_is_named(damage, bad):
    verdict = verify(damage(log()))
    assert not verdict.ok
    assert verdict.first_bad_seq == bad
    assert verdict.problem


def test_a62_a_second_history_has_another_head():
    assert verify(log()).head != verify(log()).head


def test_the_order_of_fields_does_not_matter():
    one = Event(
        event="e", code="c", time="t", uid="u", cluster_name="n", fields={"a": "1", "b": {"x": "1", "y": "2"}}
    )
    two = msgspec.structs.replace(one, fields={"b": {"y": "2", "x": "1"}, "a": "1"})
    assert canonical(one) == canonical(two)
