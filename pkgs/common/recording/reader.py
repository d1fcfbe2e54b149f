"""Reading a recording from a file or any stream of chunks, in one pass and bounded memory."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import BinaryIO

import msgspec

from pkgs.common.recording.decoder import Decoder
from pkgs.common.recording.model import Damage, Footer, Item, Output, SessionMeta

_CHUNK = 64 * 1024


def read_items(file: BinaryIO) -> Iterator[Item]:
    """Everything in the file, in order, damage included."""
    return decode_chunks(chunks_of(file))


def chunks_of(file: BinaryIO) -> Iterator[bytes]:
    """The file's bytes from where it stands."""
    return iter(lambda: file.read(_CHUNK), b"")


def decode_chunks(chunks: Iterable[bytes]) -> Iterator[Item]:
    """The same from chunks of any size, such as a download's."""
    decoder = Decoder()
    for chunk in chunks:
        yield from decoder.feed(chunk)
    yield from decoder.finish()


class Summary(msgspec.Struct, frozen=True, kw_only=True):
    """A recording at a glance."""

    meta: SessionMeta | None
    footer: Footer | None
    duration_ms: int
    outputs: int
    output_bytes: int
    damages: tuple[Damage, ...]

    @property
    def complete(self) -> bool:
        """It ended in good order and every byte is as it was written."""
        return self.meta is not None and self.footer is not None and not self.damages

    @property
    def cut(self) -> bool:
        """It ends early, as after a crash; what is there may be played."""
        return any(damage.cut for damage in self.damages)


def summarise(items: Iterable[Item]) -> Summary:
    """Go through all items (see `read_items`) and keep only the figures."""
    meta: SessionMeta | None = None
    footer: Footer | None = None
    damages: list[Damage] = []
    duration_ms = outputs = output_bytes = 0
    for item in items:
        if isinstance(item, SessionMeta):
            meta = item
        elif isinstance(item, Damage):
            damages.append(item)
        else:
            duration_ms = item.ms
            if isinstance(item, Footer):
                footer = item
            elif isinstance(item, Output):
                outputs += 1
                output_bytes += len(item.data)
    return Summary(
        meta=meta,
        footer=footer,
        duration_ms=duration_ms,
        outputs=outputs,
        output_bytes=output_bytes,
        damages=tuple(damages),
    )
