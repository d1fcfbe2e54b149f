"""Every limit of this room, in one place."""

from __future__ import annotations

EXPIRES_S = 30 * 60.0
"""After the last word of an agent, its sessions are taken for over."""
MAX_SESSIONS_PER_HOST = 2000
MAX_TEXT = 1024
"""Characters of each text of a session."""
MAX_NAMES = 128
"""Entries of each list of a session."""
MAX_REASON = 512
MAX_ORDERS = 256
"""Orders that may wait for one agent's stream."""
MAX_STREAMS_PER_HOST = 4
"""An agent that reconnects may leave an old one behind for a while."""
IDLE_S = 30.0
"""How often a stream of orders asks whether its agent may still hear them."""
