"""Every limit of outgoing connections, in one place. Attack A66 tests them."""

from __future__ import annotations

LOGIN_S = 30.0
"""From the first byte to a login."""
OPEN_S = 30.0
"""For the server to answer the opening of a channel."""
MAX_BANNER_BYTES = 16 * 1024
"""Of all the banners that a server shows before the login; the rest is dropped."""
MAX_BANNERS = 64
"""Further ones end the connection."""
MAX_SERVER_OPENS = 1000
"""Channels that a server asks to open towards us; each is refused."""
MAX_FAREWELL = 1024
"""Characters of the server's reason for hanging up."""
MAX_CAPTURED = 16 * 1024 * 1024
"""Output of one command that `run` keeps; more ends the connection."""
MAX_PENDING_REQUESTS = 64
"""Of one channel, or of the connection itself: sent and not yet answered."""
