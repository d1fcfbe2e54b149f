"""The hash chain of the audit log: each stored event's hash covers the one before it.

`hash(n) = SHA-256(label, hash(n-1), canonical(event n))`. Deleting, reordering or editing one stored
event breaks the chain at that place. Cutting the newest events off, or writing a whole new history,
leaves an unbroken chain with another head: whoever noted the head earlier notices (attack A62).
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Iterable

import msgspec

from pkgs.common.api.audit import AuditVerdict, StoredEvent
from pkgs.common.events.format import flatten
from pkgs.common.events.types import Event

GENESIS = "0" * 64
"""What the first event is chained to."""

_LABEL = b"open-access audit chain 1\x00"


def canonical(event: Event) -> bytes:
    """Bytes that are the same for equal events, whatever the order of their fields."""
    return msgspec.json.encode(flatten(event), order="sorted")


def link(previous: str, event: Event) -> str:
    """Hex hash of an event stored after the one with hash `previous`."""
    digest = hashlib.sha256(_LABEL)
    digest.update(bytes.fromhex(previous))
    digest.update(canonical(event))
    return digest.hexdigest()


def verify(stored: Iterable[StoredEvent], *, previous: str = GENESIS, first_seq: int = 1) -> AuditVerdict:
    """Walk the log in stored order and name the first event that is not as it was written."""
    seq = first_seq
    head = previous
    count = 0
    for item in stored:
        problem = ""
        if item.seq != seq:
            problem = f"event {seq} is missing: {item.seq} follows {seq - 1}"
        elif not hmac.compare_digest(link(head, item.event).encode(), item.hash.encode()):
            problem = "the stored hash does not fit this event after the one before it"
        if problem:
            return AuditVerdict(ok=False, events=count, first_bad_seq=seq, problem=problem, head=head)
        head = item.hash
        seq += 1
        count += 1
    return AuditVerdict(ok=True, events=count, head=head if count else "")
