import json

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pkgs.common.errors import InputError
from pkgs.common.events import codes, limits
from pkgs.common.events.format import (
    Series,
    bounded,
    encoded,
    flatten,
    from_json,
    new_event,
    rfc3339,
    to_json,
    unflatten,
    unix_time,
)
from pkgs.common.events.types import Event
from tests.harness.examples import examples

NOW = 1_790_000_000.123


def event(**fields) -> Event:
    return new_event(codes.USER_LOGIN_OK, cluster_name="alpha", now=NOW, **fields)


def test_the_flat_shape_is_the_fields_own():
    made = event(user="mira", success=True, addr_remote="198.51.100.7:50112", absent=None)
    flat = json.loads(to_json(made))
    assert flat == {
        "event": "user.login",
        "code": "T1000I",
        "time": "2026-09-21T14:13:20.123Z",
        "uid": made.uid,
        "ei": 0,
        "cluster_name": "alpha",
        "user": "mira",
        "success": True,
        "addr.remote": "198.51.100.7:50112",
    }
    assert unflatten(flat) == made
    assert from_json(to_json(made)) == made
    assert unix_time(made) == pytest.approx(NOW)


def test_a_base_name_is_no_field():
    with pytest.raises(ValueError, match="uid"):
        event(uid="x")


def test_a_field_from_outside_cannot_replace_the_base():
    forged = msgspec.structs.replace(event(), fields={"code": "T9999I", "user": "eve"})
    assert flatten(forged)["code"] == "T1000I"
    assert bounded(forged).fields == {"user": "eve"}


_TEXT = st.text(max_size=20) | st.sampled_from(["x" * 5000, "\ud800", "\0" * 3000, "name", "uid"])
_VALUES = (
    _TEXT
    | st.integers(-(2**40), 2**40)
    | st.none()
    | st.booleans()
    | st.lists(_TEXT, max_size=3)
    | st.just(["x"] * 200)
    | st.dictionaries(_TEXT, _TEXT | st.lists(_TEXT, max_size=3), max_size=3)
)
_FIELDS = st.dictionaries(_TEXT, _VALUES, max_size=20)


@given(common=_FIELDS, fields=_FIELDS, ei=st.integers(0, 2**31 - 1))
@settings(max_examples=examples(200))
def test_an_event_of_a_series_is_as_any_other_one(common, fields, ei):
    time = rfc3339(NOW)
    payload = Series("alpha", common).payload(codes.EXEC, time, ei, fields)
    made = msgspec.msgpack.decode(payload, type=Event)
    # The encoding that the Auth Service takes: the shortest form of everything, and no name twice.
    assert msgspec.msgpack.encode(msgspec.msgpack.decode(payload)) == payload
    kept = {name: value for name, value in common.items() if value is not None}
    base = {"event": codes.EXEC.event, "code": codes.EXEC.code, "time": time, "uid": made.uid, "ei": ei}
    if len(kept) + len(fields) < limits.MAX_FIELDS and "x" * 5000 not in (*kept, *fields):
        once = bounded(Event(**base, cluster_name="alpha", fields=kept)).fields
        assert made == bounded(Event(**base, cluster_name="alpha", fields={**once, **fields}))
    assert encoded(made) == payload


def test_every_kind_is_a_distinct_pair():
    assert len({kind.code for kind in codes.ALL_KINDS}) == len(codes.ALL_KINDS)
    assert codes.sftp_kind("rename", ok=False) == (codes.SFTP_RENAME_FAIL, 16)
    assert codes.sftp_kind("format-disk", ok=True) == (codes.SFTP_DISALLOWED, 0)


@pytest.mark.parametrize("raw", [b"", b"[]", b'{"event":1}', b"\xff", b'{"event":"x"}', b"{"])
def test_what_is_no_event_is_refused_as_input(raw):
    with pytest.raises(InputError):
        from_json(raw)


@pytest.mark.parametrize("time", ["", "yesterday", "2026-01-01T00:00:00", "9" * 1000])
def test_a_time_that_is_none(time):
    with pytest.raises(InputError) as caught:
        unix_time(msgspec.structs.replace(event(), time=time))
    assert len(str(caught.value)) < 200


def test_a63_hostile_text_stays_one_bounded_record():
    name = 'root\n{"event":"user.create"}\x1b]52;c;AAAA\x07%n' + "x" * 1_000_000
    made = event(user=name)
    raw = to_json(made)
    assert len(raw) <= limits.MAX_EVENT_BYTES
    assert b"\n" not in raw and b"\x1b" not in raw
    assert str(made.fields["user"]).endswith("more]")
    assert json.loads(raw)["event"] == "user.login"


def test_many_large_values_fit_too():
    made = event(**{f"f{n}": ["y" * 5000] * 500 for n in range(200)})
    assert len(to_json(made)) <= limits.MAX_EVENT_BYTES
    assert bounded(made) == made


values = st.one_of(
    st.text(max_size=6000),
    st.integers(-(2**60), 2**60),
    st.booleans(),
    st.lists(st.text(max_size=50), max_size=200),
    st.dictionaries(st.text(max_size=200), st.text(max_size=200), max_size=10),
)


@settings(max_examples=examples(60), deadline=None)
@given(st.dictionaries(st.text(min_size=1, max_size=200), values, max_size=80))
def test_bounding_is_final_and_survives_the_round_trip(fields):
    made = bounded(Event(event="e", code="c", time="t", uid="u", cluster_name="n", fields=fields))
    assert bounded(made) == made
    assert len(to_json(made)) <= limits.MAX_EVENT_BYTES
    assert from_json(to_json(made)) == made
