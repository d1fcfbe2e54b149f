"""An audit event: a flat record with a name, a stable code, a time and fields."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from typing import Protocol

import msgspec

Scalar = str | int | float | bool | None
Inner = str | int | Sequence[str] | Mapping[str, int]
Record = Mapping[str, Inner]
FieldValue = Scalar | Sequence[str | Record] | Record


class Event(msgspec.Struct, frozen=True, kw_only=True):
    """One event. On output `fields` are flattened beside the others, as the field's users expect."""

    event: str
    """Name, e.g. `user.login`."""
    code: str
    """Stable code, e.g. `T1000I`."""
    time: str
    """RFC 3339 UTC, milliseconds."""
    uid: str
    """Random UUID; also the key that makes a repeated delivery harmless."""
    cluster_name: str
    ei: int = 0
    """Index inside a session's stream."""
    fields: dict[str, FieldValue] = {}


class Emitter(Protocol):
    """Where a service puts its events. Returns once they are durable (spooled or stored), in their order."""

    async def emit(self, *events: Event) -> None: ...


class Poster(Emitter, Protocol):
    """For events that are told in great numbers, before what they tell of is done."""

    def post(self, *payloads: bytes) -> asyncio.Future[None]:
        """Events as MessagePack, bounded (`format.Series`, `format.encoded`). The operating system has them
        when this returns, so that they outlive this process; they are durable when the future, which is not
        to be cancelled, is done. Raises AccessError when they cannot be kept, and so does the future."""
