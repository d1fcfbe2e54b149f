"""Every size, count and deadline of the room. Tests shorten them by passing their own."""

from __future__ import annotations

import msgspec

KIB = 1024
MIB = 1024 * KIB

DEFAULT_CALL_DEADLINE_S = 10.0
MAX_CALL_DEADLINE_S = 300.0
"""What a server grants a call at most, whatever its header asks for. Streams may live longer."""
STREAM_WINDOW = 16
"""Items a reader lets a server send ahead. Half of it is granted anew at a time."""
UPLOAD_WINDOW = 8
"""Chunks a client may send ahead of the handler that reads them."""
UPLOAD_CHUNK_BYTES = 256 * KIB
MAX_CREDIT = 1024
"""More credit than this on one stream is a peer that does not play by the rules."""
MAX_CALL_ID = 2**32 - 1
MAX_KEY_CHARS = 128
MAX_METHOD_CHARS = 128
MAX_ERROR_CHARS = 4096


class WireLimits(msgspec.Struct, frozen=True, kw_only=True):
    """What a peer's bytes may look like; checked on the announced size, before the bytes arrive."""

    frame_bytes: int = MIB
    message_bytes: int = 4 * MIB
    parts: int = 8
    command_bytes: int = KIB


class ServerLimits(msgspec.Struct, frozen=True, kw_only=True):
    """What one server grants its peers, each alone and all together."""

    wire: WireLimits = WireLimits()
    anonymous_wire: WireLimits = WireLimits(frame_bytes=64 * KIB, message_bytes=72 * KIB, parts=2)
    """For a peer without a certificate."""

    handshake_s: float = 10.0
    """For the TLS handshake, and again for the greeting after it."""
    stall_s: float = 20.0
    """From the first byte of a message to its last."""
    ping_after_s: float = 10.0
    idle_close_s: float = 30.0
    """Nothing heard for so long, not even an answer to a ping."""
    anonymous_life_s: float = 120.0
    """A peer without a certificate has no business here for longer."""
    tick_s: float = 1.0

    handshaking: int = 1024
    connections: int = 8192
    connections_per_identity: int = 128
    anonymous_connections: int = 512
    share_of_source: float = 0.25
    """How much of the places for handshakes, and of those for peers without a certificate, one source may
    take."""
    local_connections: int = 256

    messages_per_s: float = 100_000.0
    anonymous_messages_per_s: float = 50.0
    """Above the rate a connection is not read for a while, which slows the peer down."""
    flood_close_s: float = 5.0
    """Who would have to be unread for longer than this is closed instead."""

    calls_per_connection: int = 1024
    streams_per_connection: int = 64
    inbound_bytes: int = 4 * MIB
    """Forwarded to the ROUTER and not yet taken from it, per connection; then the peer is not read."""
    outbound_bytes: int = MIB
    outbound_messages: int = 128
    """Given to the ROUTER and not yet seen by the guard, per connection; then answers wait outside."""
    backlog_bytes: int = 4 * MIB
    """Waiting outside: above this the peer is not read, and its streams wait."""
    backlog_drop_bytes: int = 32 * MIB
    """Waiting outside: above this the peer is dropped, for it does not read its answers."""
    write_buffer_bytes: int = MIB
    """Per socket; above it the other side of the guard is not read."""

    default_deadline_s: float = DEFAULT_CALL_DEADLINE_S
    max_deadline_s: float = MAX_CALL_DEADLINE_S

    replays: int = 4096
    replays_per_identity: int = 512
    replay_ttl_s: float = 300.0
    replay_bytes: int = 256 * KIB
    """A longer answer is not kept for a repeated idempotency key: the repetition is refused."""

    drain_batch: int = 8
    """Messages taken from the ROUTER before the loop gets a turn. Small, so that the first answers are on
    their way (and the other core at work) while the rest is being carried out: measured, a third more calls
    a second with sixteen outstanding than with a batch of 64."""


class ClientLimits(msgspec.Struct, frozen=True, kw_only=True):
    wire: WireLimits = WireLimits()
    dial_s: float = 10.0
    ping_after_s: float = 10.0
    idle_close_s: float = 30.0
    backoff_first_s: float = 0.2
    backoff_max_s: float = 20.0
    write_buffer_bytes: int = MIB
    outstanding: int = 1024
    """Calls of this client at once; more is an error of the program, not of the peer."""
