"""The signed end of a recording: the host that ran the session vouches for every byte before.

What is signed is the chain value of all frames before the footer, and the footer itself. The chain covers
the metadata, so the signature is for one session of one host. A recording that somebody else wrote anew has
no such signature, and one that was cut has none at all.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import msgspec

from pkgs.common.recording.model import Footer

_DOMAIN = b"teleport session recording, signed end, version 1\0"
"""With the chain longer than any exchange hash that the same key signs: neither passes for the other."""
_ENCODER = msgspec.msgpack.Encoder()


class Signed(NamedTuple):
    certificate: bytes
    """The host's SSH certificate, wire form."""
    signature: bytes
    """SSH signature by the key of that certificate, wire form."""


Seal = Callable[[bytes], Signed]
"""Signs a message with the host's key. Raises AccessError when there is none."""


def message(chain: bytes, footer: Footer) -> bytes:
    """What is signed: `chain` is the value of the last frame before the footer."""
    bare = msgspec.structs.replace(footer, certificate=b"", signature=b"")
    return _DOMAIN + chain + _ENCODER.encode(bare)
