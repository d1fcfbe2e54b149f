"""Cutting a long answer into items that fit a frame of the RPC, whatever their content."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TypeVar

import msgspec

from pkgs.auth.limits import CHUNK, CHUNK_BYTES

T = TypeVar("T")
_encode = msgspec.msgpack.Encoder().encode


def chunked(items: Sequence[T], count: int = CHUNK) -> Iterator[list[T]]:
    """At most `count` items and about `CHUNK_BYTES` at a time; a single item is never divided."""
    for start in range(0, len(items), count):
        yield from _fitting(list(items[start : start + count]))


def _fitting(items: list[T]) -> Iterator[list[T]]:
    if len(items) == 1 or len(_encode(items)) <= CHUNK_BYTES:
        yield items
        return
    middle = len(items) // 2
    yield from _fitting(items[:middle])
    yield from _fitting(items[middle:])
