"""Every size, count and deadline of the network room, in one place (attacks A42, A54)."""

from __future__ import annotations

from dataclasses import dataclass

HELLO_MAX = 16 * 1024
"""Most bytes of TLS records that a ClientHello may take."""
PROXY_HEADER_MAX = 4096
"""Most bytes of a PROXY header, version 1 or 2, with its TLVs."""
PROXY_HEADER_FRESH_S = 60.0
"""A signed PROXY header is believed this long before and after its time stamp."""
PROXY_NONCES_MAX = 262_144
"""Nonces remembered against replay; more than this within the fresh time are refused."""
PROXY_HEADER_OPTIONAL_WAIT_S = 1.0
"""On a port where the server speaks first: how long a PROXY header may keep us waiting."""

FRAME_MAX = 16 * 1024
"""Most bytes of the MessagePack in one frame."""

READ_CHUNK = 256 * 1024
"""Bytes asked of the kernel at once; measured: 64 KiB costs a third more CPU per byte."""
TLS_RECORD = 16 * 1024
EARLY_MAX = 1024 * 1024
"""Bytes that a stream keeps for a reader that has not come yet; then it stops reading."""
WRITE_MAX = 8 * 1024 * 1024
"""Bytes written but not yet taken by the kernel at which a writer that never drains is cut off."""

HANDSHAKE_S = 10.0
DIAL_S = 10.0
HAPPY_EYEBALLS_S = 0.25
"""Head start of one address before the next is tried beside it (RFC 8305)."""
CLOSE_S = 5.0
"""For the last bytes and the TLS close of a stream that is being closed."""
HALF_CLOSED_IDLE_S = 600.0
"""A relay with one direction ended and no byte in the other for so long is closed."""

KEEPALIVE_IDLE_S = 30
KEEPALIVE_INTERVAL_S = 10
KEEPALIVE_COUNT = 3
"""A peer that vanished without a FIN is noticed within a minute, when nothing is being sent."""
UNACKNOWLEDGED_MS = 60_000
"""The same while something is being sent."""

BACKLOG = 1024
ACCEPT_BATCH = 64
"""Connections taken in one turn of the loop, so that a flood leaves the loop to others."""
FD_RESERVE = 64
"""Descriptors kept back from connections, for files, sockets and the log."""
EXHAUSTED_PAUSE_S = 0.25
"""How long accepting rests when the process is out of descriptors or memory."""
EXHAUSTED_LOG_EVERY_S = 10.0

SOURCES_MAX = 16_384
"""Sources remembered by a rate limit or a penalty table; the least recently seen is forgotten."""


@dataclass(frozen=True, slots=True)
class ListenerLimits:
    """Limits of one listener."""

    hello_s: float = 10.0
    """From the accept to a whole ClientHello (and PROXY header)."""
    total: int = 20_000
    """Connections at once; lowered to what the process's descriptors allow."""
    per_source: int = 15_000
    """Connections at once from one source address (IPv6: one /64)."""
    pending: int = 4_096
    """Connections that have not said hello yet. The oldest gives way, so that a flood of silent
    connections can't keep anybody out who speaks."""
    pending_per_source: int = 512
