"""Bounds of tsh's own SSH client."""

from __future__ import annotations

READ_BYTES = 32 * 1024
"""Read from one source before the others have their turn."""

MAX_FORWARDS = 64
"""Ports that one command forwards."""

BACKLOG = 64
"""Connections to a forwarded port that wait to be taken."""

CONNECT_S = 10.0
"""For a connection to where a server's forwarded port leads."""

MAX_ASKING = 128
"""SOCKS clients that have not yet said where they want to go; further ones wait to be taken."""

SOCKS_S = 10.0
"""From the first byte of a SOCKS client to its request."""

ANSWER_S = 30.0
"""For the server to answer a request to listen."""

END_S = 3.0
"""For the process that carries the connection to end, before it is killed."""

ALIVE_INTERVAL_S = 60
ALIVE_COUNT = 3
"""Signs of life that may go unanswered."""
