"""Every limit of this room, in one place. Of a regular expression: `common/access/matching/patterns`."""

from __future__ import annotations

MAX_TEMPLATES = 256
"""In one file."""
MAX_FIELD = 1000
"""Characters of a field, and of what it becomes."""
MAX_DESTINATION = 300
"""Characters of `host:port`."""
