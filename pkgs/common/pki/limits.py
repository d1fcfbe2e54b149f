"""Sizes, counts and times of this room, in one place."""

from __future__ import annotations

CLOCK_TOLERANCE_S = 30.0
"""How far in the future `valid_after` may lie; expiry has no tolerance."""
BACKDATE_S = 60.0
"""How far before the moment of issue a certificate starts to be valid."""

MAX_SSH_CERT_BYTES = 64 * 1024
MAX_TLS_CERT_BYTES = 64 * 1024
MAX_PRINCIPALS = 256
MAX_OPTIONS = 64
"""Critical options, and likewise extensions, of one SSH certificate."""
MAX_CUSTOM_EXTENSIONS = 32
"""Of those, what roles may add."""
MAX_SOURCE_NETWORKS = 32
MAX_DATABASE_TEXT = 256
"""Characters of each name in a route to a database."""
MAX_DATABASE_ROLES = 32
MAX_IDENTITY_FILE_BYTES = 256 * 1024

MIN_RSA_BITS = 2048
MAX_RSA_BITS = 8192

CA_LIFE_S = 10 * 365 * 24 * 3600.0
FOREVER = 2**64 - 1
"""`valid before` of an SSH certificate that never expires."""

SEAL_LOG_N = 17
SEAL_R = 8
SEAL_P = 1
"""Cost of the key of a sealed text: 128 MiB of memory and about half a second."""
SEAL_LOG_N_RANGE = (10, 18)
SEAL_P_RANGE = (1, 4)
"""What a reader is willing to spend, whatever the text asks for: at most 256 MiB and some seconds."""
MAX_SEALED_BYTES = 40 * 1024 * 1024
"""Of the plain text within."""
PASSPHRASE_MIN = 12
PASSPHRASE_MAX = 1024
"""Characters."""
