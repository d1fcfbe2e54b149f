"""An event that is too large still says who and where (attacks A39, A63)."""

from __future__ import annotations

import uuid

import pytest

from pkgs.common.events.format import bounded, to_json
from pkgs.common.events.limits import MAX_EVENT_BYTES, MAX_FIELDS
from pkgs.common.events.types import Event, FieldValue

HOST = "11111111-1111-4111-8111-111111111111"


@pytest.mark.parametrize("many", [30, 70])
def test_a63_what_is_too_large_does_not_become_nameless(many: int) -> None:
    who: dict[str, FieldValue] = {
        "user": "eve",
        "login": "root",
        "sid": str(uuid.uuid4()),
        "server_id": HOST,
        "addr.remote": "192.0.2.7:22",
    }
    flood: dict[str, FieldValue] = {
        f"k{number}": {str(at): ["x" * 64] * 40 for at in range(20)} for number in range(many)
    }
    event = Event(
        event="auth",
        code="T3007W",
        time="2026-02-03T10:11:12.131Z",
        uid=str(uuid.uuid4()),
        cluster_name="demo",
        fields={**flood, **who},
    )
    kept = bounded(event)
    assert len(to_json(kept)) <= MAX_EVENT_BYTES
    assert "error" in kept.fields
    assert {name: kept.fields.get(name) for name in who} == who


def test_a39_many_fields_do_not_push_the_host_out() -> None:
    """The Auth Service adds the host's id to what the host tells; it is the last of too many fields."""
    fields: dict[str, FieldValue] = {f"k{number}": "v" for number in range(MAX_FIELDS)}
    event = Event(
        event="auth",
        code="T3007W",
        time="2026-02-03T10:11:12.131Z",
        uid=str(uuid.uuid4()),
        cluster_name="demo",
        fields={**fields, "server_id": HOST},
    )
    assert bounded(event).fields["server_id"] == HOST
