"""Every limit of this room, in one place."""

from __future__ import annotations

CHUNK = 32 * 1024
"""Of one read or write: what every server takes."""
OUTSTANDING = 64
"""Requests on their way at once."""
MAX_REPLY = 256 * 1024
HASH_CHUNK = 1024 * 1024
COMPARE_S = 600.0
"""For a server to read what it has, and say what it is."""
END_S = 10.0
PROGRESS_EVERY_S = 0.2
"""A terminal is not written to more often."""
