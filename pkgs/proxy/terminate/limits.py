"""Every limit of SSH that ends at the proxy, in one place."""

from __future__ import annotations

MAX_CONNECTIONS_OF_USER = 128
"""At once: each is a process of the proxy."""
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
