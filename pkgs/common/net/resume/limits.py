"""Every size, count and wait of connection resumption that both ends share (attacks A54, A66)."""

from __future__ import annotations

WINDOW = 16 * 1024 * 1024
"""Bytes that a peer may send beyond what has been passed on here: fixed by version 0."""
SEND_MAX = 4 * 1024 * 1024
"""Bytes kept until the peer has them. Less than the window: enough for 40 MB/s over 100 ms."""
CHUNK = 256 * 1024
"""Most bytes of one frame that we send."""
ACK_STEP = 256 * 1024
"""Bytes passed on before the peer is told without having anything else to tell."""
VARINT_MAX = 10
"""Bytes of the longest number of 64 bits."""
EMPTY_MAX = 10_000
"""Frames in a row that neither carry nor acknowledge anything."""
KEPT_S = 60.0
"""How long either end keeps a stream whose connection was lost."""
HOST_ID_MAX = 127
