"""Every limit of SSH that ends at the proxy, in one place."""

from __future__ import annotations

MAX_SESSIONS = 32
"""Of one connection."""
MAX_CONNECTIONS_OF_USER = 128
"""At once: each is a process of the proxy."""
RECORD_HEAD = 1024 * 1024
"""Output of a command without a terminal that is recorded; a mark follows where it is cut."""
MAX_COMMAND = 128 * 1024
MAX_SHOWN_COMMAND = 16 * 1024
MAX_TERM = 64
MAX_ENV_VARS = 32
MAX_ENV_VALUE = 4096
TARGET_S = 25.0
"""From a user's login to a login on the server, certificate and connecting included."""
ANSWER_S = 20.0
"""For a server to answer the opening of a session or a request in it."""
CERT_CALL_S = 10.0
HOST_CERT_RENEW_S = 12 * 3600.0
"""A certificate shown to users is renewed when it is as old."""
MAX_HOST_CERTS = 4096
"""Kept at once; each is of one server."""
EXIT_WAIT_S = 10.0
"""How long a process whose user is gone may still be there."""
RESIZE_REST_S = 0.25
"""Terminal sizes that follow one another faster are recorded as one."""
FAREWELL_S = 0.25
"""For a client to show why its connection ends, before it does."""
