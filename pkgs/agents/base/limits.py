"""Every deadline and count of the agents' shared room."""

from __future__ import annotations

SILENCE_S = 15.0
"""A control connection without a sign of life for so long is dialled anew (proxies send one every 5 s)."""
CONNECT_S = 6.0
"""For TCP and TLS to a proxy. Short, since a SYN lost in a partition is repeated ever more rarely: a new
attempt gets through sooner."""
REDIAL_FIRST_S = 0.5
REDIAL_MOST_S = 5.0
"""Users wait for this after a link has returned. Jittered: a thousand agents come back over seconds."""
DATA_DIALS_AT_ONCE = 64
"""Data connections being dialled for one proxy at the same time; further requests wait."""
HEADER_LIFE_S = 6 * 3600.0
"""A spare data connection that nobody used for so long is closed; the proxy asks for another."""

LABEL_TIMEOUT_S = 30.0
LABEL_LIMIT = 4096
"""Bytes of a command's output that become its label."""
LABEL_MIN_PERIOD_S = 1.0
"""A shorter period would be a busy loop."""

LEASE_CALL_S = 8.0
"""One call about the places of users whose connections are limited."""
LEASE_RENEW_S = 30.0
"""A quarter of what a lease lives."""
LEASES_PER_CALL = 200
