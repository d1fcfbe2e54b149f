"""How large an event may be, and how much of them a host keeps while it cannot deliver."""

from __future__ import annotations

MAX_TEXT = 4096
"""Characters of one string value; the rest is cut off with a mark."""
MAX_NAME = 128
"""Characters of a field's name."""
MAX_FIELDS = 64
MAX_ITEMS = 128
"""Elements of a list or entries of a map."""
MAX_EVENT_BYTES = 48 * 1024
"""An event's JSON; long strings are cut further until it fits."""

SPOOL_MAX_BYTES = 256 * 1024 * 1024
"""Undelivered events kept on disk; when full, `emit` refuses, so that nothing happens unaudited."""
SPOOL_SEGMENT_BYTES = 4 * 1024 * 1024
"""A spool file is closed at this size; delivered files are removed whole."""
SPOOL_RECORD_BYTES = 256 * 1024
"""One framed event in the spool."""
SPOOL_SYNC_S = 0.05
"""Until what is written is put on disk, where nobody waits for that."""
SPOOL_BATCH = 250
"""Events per delivery."""
SPOOL_BATCH_BYTES = 512 * 1024
"""Bytes per delivery (the RPC's message limit is larger)."""
SPOOL_IN_MEMORY = 1000
"""Latest undelivered events that need not be read back from the disk; older ones are."""
SPOOL_PACE_S = 0.25
"""Between two deliveries that were not full: events that keep coming are handed over together."""
RETRY_FIRST_S = 0.25
RETRY_LIMIT_S = 30.0
"""Back-off between failed deliveries: doubling from the first to the limit, each with jitter."""
