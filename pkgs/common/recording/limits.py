"""How much a recording may ask of whoever writes or reads it."""

from __future__ import annotations

FLUSH_BYTES = 32 * 1024
"""A frame is written when this much is buffered,"""
FLUSH_AFTER_S = 1.0
"""or this long after its first event."""

SIZE_EVERY = 4
"""Batches of events after which the terminal's size is said again, for those who begin to read there."""

MAX_OUTPUT_BYTES = 32 * 1024
"""One output event; the writer splits longer writes."""
MAX_TEXT = 2048
"""Characters of a command, a mark's text, a name."""
MAX_NAMES = 64
"""Participants."""
MAX_NAME = 256
"""Characters of a participant's name."""
MAX_RAW_FRAME = 256 * 1024
"""A frame's uncompressed bytes: what a reader holds at once."""
MAX_STORED_FRAME = 264 * 1024
"""A frame's compressed bytes (zlib can grow a little)."""
MAX_EVENTS_IN_FRAME = 16_384
MAX_RAW_TOTAL = 4 * 1024 * 1024 * 1024
"""Uncompressed bytes of a whole recording that a reader goes through before it gives up."""
FULL_RAW = MAX_RAW_TOTAL // 2
FULL_STORED = 512 * 1024 * 1024
"""A recording with so many bytes, uncompressed or as stored, is full: half of what is read and taken in, so
that what still comes while its session is being ended has room."""

MAX_COLS = 1000
MAX_ROWS = 1000
"""A terminal beyond these is shown at these: a million columns is an attack on the player."""
MAX_MS = 30 * 24 * 3600 * 1000
"""Thirty days; a later time is a damaged one."""
MAX_DAMAGE_REPORTS = 100
"""A reader says no more than this about one file."""
MAX_UNIX_S = 253_402_300_799.0
"""The last second of the year 9999; a later time is a damaged one."""
