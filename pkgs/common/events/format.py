"""Making an event, bounding it, and its flat JSON shape.

An event read by anybody else is one flat JSON object: `event`, `code`, `time`, `uid`, `ei`,
`cluster_name` and the fields beside them. Names and values from the network end up in events, so every
text is bounded here; that it stays one record and inert on a terminal is up to JSON's escapes.
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from functools import cache, lru_cache
from itertools import chain, islice
from typing import Any, TypeVar

import msgspec

from pkgs.common.errors import InputError
from pkgs.common.events.codes import Kind
from pkgs.common.events.limits import MAX_EVENT_BYTES, MAX_FIELDS, MAX_ITEMS, MAX_NAME, MAX_TEXT
from pkgs.common.events.types import Event, FieldValue, Inner, Record

T = TypeVar("T")
BASE_NAMES = frozenset({"event", "code", "time", "uid", "ei", "cluster_name"})
"""Never usable as names of fields: the base would be forgeable."""

WHO = frozenset({"user", "login", "sid", "server_id", "addr.remote"})
"""Kept of an event that is too large whatever is cut: nobody becomes nameless by telling much."""

LAST_INDEX = 2147483647
"""`ei` of a session's end event; `session.data` has the one before."""

_SMALL = MAX_TEXT
"""Bytes of MessagePack below which no text is too long and no JSON too large, whatever has to be escaped."""
_SIMPLE = frozenset((str, int, float, bool, type(None)))
_BASE_SIZE = 1024
"""Bytes that suffice for what an event has beside its fields."""

_ENCODER = msgspec.msgpack.Encoder()
_DOTTED = {"addr_remote": "addr.remote", "addr_local": "addr.local"}


def new_event(kind: Kind, *, cluster_name: str, now: float, ei: int = 0, **fields: FieldValue) -> Event:
    """An event that happened at `now` (Unix seconds), with a fresh uid, bounded.

    A field that is None is left out. `addr_remote` and `addr_local` become the field's dotted names.
    """
    named: dict[str, FieldValue] = {}
    for name, value in fields.items():
        if name in BASE_NAMES:
            raise ValueError(f"{name} is part of every event and not a field of this one")
        if value is not None:
            named[_DOTTED.get(name, name)] = value
    return bounded(
        Event(
            event=kind.event,
            code=kind.code,
            time=rfc3339(now),
            uid=_new_uid(),
            cluster_name=cluster_name,
            ei=ei,
            fields=named,
        )
    )


class Series:
    """Many events that have most of their fields in common: those are bounded and encoded once."""

    def __init__(self, cluster_name: str, common: Mapping[str, FieldValue]) -> None:
        fields: dict[str, FieldValue] = {name: value for name, value in common.items() if value is not None}
        event = bounded(Event(event="", code="", time="", uid="", cluster_name=cluster_name, fields=fields))
        self._cluster_name = event.cluster_name
        self._common = event.fields
        self._encoded = b"".join(map(_ENCODER.encode, chain.from_iterable(event.fields.items())))
        self._middle = _ENCODER.encode("cluster_name") + _ENCODER.encode(event.cluster_name) + _EI

    def payload(self, kind: Kind, time: str, ei: int, fields: Mapping[str, FieldValue]) -> bytes:
        """An event with these fields besides, a fresh uid, bounded: its MessagePack."""
        encode = _ENCODER.encode
        count = len(self._common) + len(fields)
        if count <= MAX_FIELDS and _is_slim(fields) and self._common.keys().isdisjoint(fields):
            try:
                own = b"".join(map(encode, chain.from_iterable(fields.items())))
            except UnicodeEncodeError:  # a lone surrogate
                own = b""
            if own and len(own) + len(self._encoded) <= _SMALL - _BASE_SIZE:
                head = b"".join((_beginning(kind), encode(time), _UID, encode(_new_uid()), self._middle))
                return b"".join((head, encode(ei), _FIELDS, _map_of(count), self._encoded, own))
        event = Event(
            event=kind.event,
            code=kind.code,
            time=time,
            uid=_new_uid(),
            cluster_name=self._cluster_name,
            ei=ei,
            fields={**self._common, **fields},
        )
        return encoded(event)


_UID, _EI, _FIELDS = map(_ENCODER.encode, ("uid", "ei", "fields"))


@cache
def _beginning(kind: Kind) -> bytes:
    """Of the MessagePack of an event of this kind: a map of seven, up to the value of `time`."""
    words = ("event", kind.event, "code", kind.code, "time")
    return b"\x87" + b"".join(map(_ENCODER.encode, words))


def _map_of(count: int) -> bytes:
    """MessagePack's header of a map."""
    return bytes((0x80 | count,)) if count < 16 else b"\xde" + count.to_bytes(2, "big")


def _new_uid() -> str:
    """What `uuid4` makes, in a third of its time."""
    digits = os.urandom(16).hex()
    variant = "89ab"[int(digits[16], 16) & 3]
    return f"{digits[:8]}-{digits[8:12]}-4{digits[13:16]}-{variant}{digits[17:20]}-{digits[20:]}"


def rfc3339(unix_s: float) -> str:
    """UTC with milliseconds, `2026-02-03T10:11:12.131Z`."""
    fraction, second = math.modf(unix_s)
    carried, microseconds = divmod(round(fraction * 1e6), 1_000_000)
    return f"{_rfc3339_second(int(second) + carried)}.{microseconds // 1000:03}Z"


@lru_cache(maxsize=8)
def _rfc3339_second(unix_s: int) -> str:
    """Up to the second: most events of a moment are of the same one."""
    return datetime.fromtimestamp(unix_s, UTC).isoformat().removesuffix("+00:00")


def unix_time(event: Event) -> float:
    """The event's time in Unix seconds; raises InputError for a time that is none."""
    try:
        moment = datetime.fromisoformat(event.time)
    except ValueError:
        raise InputError(f"event time {_cut(event.time, 40)!r} is not RFC 3339") from None
    if moment.tzinfo is None:
        raise InputError(f"event time {_cut(event.time, 40)!r} has no time zone")
    return moment.timestamp()


def bounded(event: Event) -> Event:
    """The same event with every text, list and map within the limits; what was cut carries a mark."""
    return _bounded_and_encoded(event)[0]


def encoded(event: Event) -> bytes:
    """The MessagePack of the event, bounded."""
    return _bounded_and_encoded(event)[1]


def _bounded_and_encoded(event: Event) -> tuple[Event, bytes]:
    try:
        payload = _ENCODER.encode(event)
    except UnicodeEncodeError:  # a lone surrogate
        payload = b""
    base = (event.event, event.code, event.time, event.uid, event.cluster_name)
    slim = max(map(len, base)) <= MAX_NAME and len(event.fields) <= MAX_FIELDS and _is_slim(event.fields)
    if payload and len(payload) <= _SMALL and slim:
        return event, payload
    event = _cut_down(event)
    return event, _ENCODER.encode(event)


def _is_slim(fields: Mapping[str, FieldValue]) -> bool:
    """Whether no name is forbidden or too long, and nothing has too many elements."""
    if not BASE_NAMES.isdisjoint(fields) or (fields and max(map(len, fields)) > MAX_NAME):
        return False
    return all(type(value) in _SIMPLE or _is_short(value) for value in fields.values())


def _is_short(value: object) -> bool:
    if isinstance(value, Mapping):
        if len(value) > MAX_ITEMS or (value and max(map(len, value)) > MAX_NAME):
            return False
        return all(map(_is_short, value.values()))
    if isinstance(value, Sequence) and not isinstance(value, str):
        return len(value) <= MAX_ITEMS and all(map(_is_short, value))
    return True


def _cut_down(event: Event) -> Event:
    limit = MAX_TEXT
    while True:
        made = _bounded_to(event, limit)
        if limit <= 64 or len(to_json(made)) <= MAX_EVENT_BYTES:
            break
        limit //= 2
    if len(to_json(made)) > MAX_EVENT_BYTES:
        kept = {name: value for name, value in made.fields.items() if name in WHO and isinstance(value, str)}
        kept["error"] = "the event's fields were too large to keep"
        made = msgspec.structs.replace(made, fields=kept)
    return made


def _bounded_to(event: Event, limit: int) -> Event:
    fields: dict[str, FieldValue] = {}
    named = list(event.fields.items())
    if len(named) > MAX_FIELDS:
        named.sort(key=lambda item: item[0] not in WHO)
    for name, value in named[:MAX_FIELDS]:
        if name in BASE_NAMES:
            continue
        fields[_cut(name, MAX_NAME)] = _bounded_value(value, limit)
    if len(event.fields) > MAX_FIELDS:
        fields["fields_dropped"] = len(event.fields) - MAX_FIELDS
    return Event(
        event=_cut(event.event, MAX_NAME),
        code=_cut(event.code, MAX_NAME),
        time=_cut(event.time, MAX_NAME),
        uid=_cut(event.uid, MAX_NAME),
        cluster_name=_cut(event.cluster_name, MAX_NAME),
        ei=event.ei,
        fields=fields,
    )


def _bounded_value(value: FieldValue, limit: int) -> FieldValue:
    if isinstance(value, str):
        return _cut(value, limit)
    if isinstance(value, Mapping):
        return _bounded_record(value, limit)
    if isinstance(value, Sequence):
        return _bounded_list(value, limit)
    return value


def _bounded_record(value: Record, limit: int) -> Record:
    return {_cut(name, MAX_NAME): _bounded_inner(inner, limit) for name, inner in _first(value)}


def _bounded_inner(value: Inner, limit: int) -> Inner:
    if isinstance(value, str):
        return _cut(value, limit)
    if isinstance(value, Mapping):
        return {_cut(name, MAX_NAME): count for name, count in _first(value)}
    return value if isinstance(value, int) else _bounded_texts(value, limit)


def _first(value: Mapping[str, T]) -> Iterable[tuple[str, T]]:
    return islice(value.items(), MAX_ITEMS)


def _bounded_list(value: Sequence[str | Record], limit: int) -> Sequence[str | Record]:
    kept, mark = _elements(value)
    made = [_cut(item, limit) if isinstance(item, str) else _bounded_record(item, limit) for item in kept]
    return [*made, *mark]


def _bounded_texts(value: Sequence[str], limit: int) -> list[str]:
    kept, mark = _elements(value)
    return [*(_cut(item, limit) for item in kept), *mark]


def _elements(value: Sequence[T]) -> tuple[Sequence[T], list[str]]:
    """As many as may stay, and a mark of what is gone: together no more, so that they stay as they are."""
    if len(value) <= MAX_ITEMS:
        return value, []
    return value[: MAX_ITEMS - 1], [f"...[{len(value) - MAX_ITEMS + 1} more]"]


def _cut(text: str, limit: int) -> str:
    """At most `limit` characters with a mark of what is gone. A lone surrogate becomes `?`."""
    if len(text) > limit:
        mark = f"...[{len(text) - limit} more]"
        text = text[: max(limit - len(mark), 0)] + mark
    return text if text.isascii() else text.encode("utf-8", "replace").decode()


def flatten(event: Event) -> dict[str, Any]:
    """The flat shape. A field named like a base name is never let through."""
    flat: dict[str, Any] = {
        "event": event.event,
        "code": event.code,
        "time": event.time,
        "uid": event.uid,
        "ei": event.ei,
        "cluster_name": event.cluster_name,
    }
    for name, value in event.fields.items():
        if name not in BASE_NAMES:
            flat[name] = value
    return flat


def unflatten(flat: dict[str, Any]) -> Event:
    """The event of a flat object; raises InputError naming what is missing or of the wrong type."""
    base = {name: flat[name] for name in BASE_NAMES if name in flat}
    fields = {name: value for name, value in flat.items() if name not in BASE_NAMES}
    try:
        return msgspec.convert({**base, "fields": fields}, Event)
    except msgspec.ValidationError as exc:
        raise InputError(f"not an event: {exc}") from None


def to_json(event: Event) -> bytes:
    """One line of JSON without the line end."""
    return msgspec.json.encode(flatten(event))


def from_json(raw: bytes) -> Event:
    try:
        flat = msgspec.json.decode(raw, type=dict[str, Any])
    except msgspec.DecodeError as exc:
        raise InputError(f"not an event: {exc}") from None
    return unflatten(flat)
