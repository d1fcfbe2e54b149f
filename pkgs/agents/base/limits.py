"""Every deadline and count of the agents' shared room."""

from __future__ import annotations

SILENCE_S = 20.0
"""A control connection without a sign of life for so long is dialled anew (proxies send one every 5 s)."""
CONNECT_S = 15.0
REDIAL_FIRST_S = 0.5
REDIAL_MOST_S = 30.0
DATA_DIALS_AT_ONCE = 64
"""Data connections being dialled for one proxy at the same time; further requests wait."""
HEADER_LIFE_S = 6 * 3600.0
"""A spare data connection that nobody used for so long is closed; the proxy asks for another."""

LABEL_TIMEOUT_S = 30.0
LABEL_LIMIT = 4096
"""Bytes of a command's output that become its label."""
LABEL_MIN_PERIOD_S = 1.0
"""A shorter period would be a busy loop."""
