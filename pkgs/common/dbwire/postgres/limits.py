"""Every size of PostgreSQL's messages that we believe, in one place."""

from __future__ import annotations

STARTUP_MAX = 10_000
"""Bytes of a packet before the session; PostgreSQL's own limit."""
MESSAGE_MAX = 0x7FFF_FFFF
"""Bytes that a message may announce: a signed number on the other side."""
CANCEL_KEY_MAX = 256
"""Bytes of the secret of a session (protocol 3.2); exactly four before that."""
NUMERIC_DIGITS_MAX = 64
"""Groups of four digits of a binary `numeric` that are written out; more stay hexadecimal."""
