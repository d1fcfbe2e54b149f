"""Every limit of the Database Service, in one place. A protocol's own are in its folder."""

from __future__ import annotations

FACTS_PENDING_MAX = 64
"""Facts that the audit has not taken yet, at which a session's bytes are held back."""
FACTS_LAST_S = 30.0
"""How long the end of a session waits for the audit to take what is left."""
HALF_CLOSED_S = 60.0
"""A client has ended and nothing moves: so long is the server's answer to its last words waited for."""
MALFORMED_KEPT = 1024
"""Bytes of a broken message that go to the audit log."""
