"""Every limit of host users."""

from __future__ import annotations

UID_MIN = 1000
"""Below are root and the accounts of the system: never made, never changed."""
UID_MAX = 2**31 - 1
MAX_GROUPS = 64
MAX_SUDOERS = 100
MAX_SUDOERS_LINE = 1000
TOOL_TIMEOUT_S = 20.0
"""One run of useradd and its like."""
MAX_TOOL_OUTPUT = 500
"""Characters of what a tool said, in errors and the log."""
REMOVE_TRIES = 20
REMOVE_PAUSE_S = 0.1
"""An account goes when its last process has: killed processes need a moment."""
