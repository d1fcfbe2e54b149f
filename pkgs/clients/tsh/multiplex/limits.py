"""Every limit of this room, in one place."""

from __future__ import annotations

MAX_STREAMS = 1024
REQUEST_S = 5.0
"""From accept to a whole request."""
MAX_REQUEST = 600
SPARES = 8
"""Connections to the proxy that are ready while streams are being asked for."""
SPARE_S = 7.0
"""How long one is kept; a proxy waits for ten seconds to be asked."""
DIAL_S = 15.0
ANSWER_S = 30.0
"""For the proxy to say that it has reached the server, or not."""
MAX_SOCKET_PATH = 100
"""A kernel takes 107 bytes."""
END_S = 2.0
"""For streams to be cut when the multiplexer is told to end."""
