"""Every size, count and wait of this room (attacks A54, A66)."""

from __future__ import annotations

SILENT_S = 2.0
"""A client that says nothing for so long waits for the server's banner first, and is a plain one."""
SPEAK_S = 10.0
"""From a client's first byte to its answer to the offer, and to all that this answer consists of."""
MEETING = 128
"""Streams that have not answered the offer yet; further ones get none and are plain."""
MEETING_OF_SOURCE = MEETING // 2
"""The same from one source address (IPv6: one /64)."""
RESUMABLE = 4096
RESUMABLE_OF_SOURCE = 1024
"""Connections that are kept if their stream is lost; what comes beyond ends with it."""
HELD_TOTAL = 512 * 1024 * 1024
"""Bytes that all of them hold, for clients and for their own processes."""
HELD_ALWAYS = 1024 * 1024
"""Bytes that each may hold whatever the others do, and beside them what its client sent before the
acknowledgement that is waited for. More than is acknowledged at a time, so that one is always coming."""
FAREWELL_S = 1.0
"""For clients to take the last bytes when the service stops."""
LINGER_S = 60.0
"""For a client to say anything, when everything was sent to it and only its end is missing."""
