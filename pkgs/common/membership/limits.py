"""How long membership waits, keeps and believes."""

from __future__ import annotations

HOUR_S = 3600.0
DAY_S = 24 * HOUR_S

JOIN_CALL_S = 20.0
"""One attempt to join, from dial to answer."""
RETRY_FIRST_S = 0.5
"""First pause after an attempt that found nobody; doubles with jitter up to `upper_limit_between_retries`."""
JOIN_LOCK_POLL_S = 0.2
MAX_WEB_ANSWER = 256 * 1024
"""Bytes of the proxy's answer to a join."""
MAX_IDENTITY_FILE = 1024 * 1024

RENEW_EVERY_S = 15 * DAY_S
"""A certificate is renewed at half its life, and after this long even if it lives longer."""
RENEW_CHECK_S = 60.0
RENEW_RETRY_FIRST_S = 10.0
RENEW_RETRY_LIMIT_S = HOUR_S

CACHE_MAX_STALE_S = 30 * HOUR_S
"""Older state is not decided on. No user certificate lives longer, so none that was issued before the Auth
Service went away is refused for this."""
CACHE_SAVE_SOON_S = 1.0
"""After a change to roles, locks, authorities or settings,"""
CACHE_SAVE_LATER_S = 60.0
"""and after one to presence, and between two notes of when the state was last known to be current."""
MAX_CACHE_FILE = 256 * 1024 * 1024
WATCH_RETRY_FIRST_S = 0.5
WATCH_RETRY_LIMIT_S = 15.0
WATCH_GRACE_S = 5.0
"""Readiness says nothing of a watch that is back within this time."""

HEARTBEAT_TICK_S = 5.0
"""A changed server (labels, tunnels) is told within this time,"""
HEARTBEAT_EVERY_S = 60.0
"""an unchanged one about so often, each time jittered by a quarter,"""
HEARTBEAT_TTL_S = 600
"""and forgotten by the cluster when nothing was heard for so long."""
HEARTBEAT_CALL_S = 10.0
HEARTBEAT_RETRY_LIMIT_S = 60.0

DELIVER_CALL_S = 30.0
"""One batch of audit events."""
CLOSE_FLUSH_S = 2.0
"""A service that stops waits so long for its last events to be taken."""

REVIEW_EVERY_S = 1.0
"""What goes on is asked about at least so often, because times pass without any change,"""
REVIEW_SETTLE_S = 0.2
"""and so long after a change: what changes in between costs nothing more."""
REVIEW_REST = 4
"""Rest between two passes in multiples of what the last one took."""
REVIEWS_PER_TURN = 16
"""Connections asked about before everything else gets its turn."""
