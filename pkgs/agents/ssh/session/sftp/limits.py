"""Every limit of this room, in one place."""

from __future__ import annotations

MAX_PACKET = 256 * 1024 + 1024
MAX_DATA = 255 * 1024
"""Longest read or write of one request; told to clients that ask."""
MAX_PATH = 4096
MAX_HANDLES = 256
"""Files and folders that one transfer may hold open."""
NAMES_PER_REPLY = 128
MAX_EXTENDED_ATTRIBUTES = 64
"""Pairs of a request that are read over; nobody sends any."""
MAX_IDS = 1024
"""Users and groups that one request may have named."""
HOLD = 1024 * 1024
"""Bytes of replies that may wait for the client to read, before no further request is taken up."""
COPY_STEP = 16 * 1024 * 1024
"""Bytes that the kernel copies between two looks at whether anybody still waits for it."""
