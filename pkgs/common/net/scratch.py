"""The buffers into which the streams of one event loop read, shared so that an idle stream costs none."""

from __future__ import annotations

import asyncio
import weakref

from pkgs.common.net import limits


class Scratch:
    """Buffers that all streams of one event loop share: they are only used between two awaits."""

    __slots__ = ("plain", "wire")

    def __init__(self) -> None:
        self.wire = memoryview(bytearray(limits.READ_CHUNK))
        self.plain = memoryview(bytearray(limits.READ_CHUNK + 2 * limits.TLS_RECORD))


_scratches: weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, Scratch] = weakref.WeakKeyDictionary()


def scratch_of(loop: asyncio.AbstractEventLoop) -> Scratch:
    found = _scratches.get(loop)
    if found is None:
        found = _scratches[loop] = Scratch()
    return found
