"""Bounds of measurements."""

from __future__ import annotations

MAX_RATE = 1000
"""Requests per second that are originated at most."""
MAX_REQUESTS = 1_000_000
CONCURRENT, MAX_CONCURRENT = 50, 500
"""Requests under way at once: each is a connection and three threads."""
REQUEST_S = 30.0
"""For one request; then it has failed."""

SAMPLES, MAX_SAMPLES = 10, 100_000
"""Round trips that are measured where nobody watches."""
EVERY_S = 1.0
ROUND_TRIP_S = 15.0
"""For one answer; then the connection counts as lost."""
