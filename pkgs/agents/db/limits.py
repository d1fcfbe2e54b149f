"""Every limit of the Database Service, in one place. A protocol's own are in its folder."""

from __future__ import annotations

FACTS_PENDING_MAX = 256
"""Facts that the audit has not taken yet, at which a session's bytes are held back."""
FACTS_GATHERED = 64
FACTS_GATHER_S = 0.01
"""What a server says is told to the audit when there are so many facts, so long after the first of them, or
with what the client says next."""
FACTS_SHOWN = 256
FACTS_SHOW_S = 0.05
"""Facts go to the recording when there are so many, or so long after the first of them; at once where nothing
may go on unrecorded."""
FACTS_LAST_S = 30.0
"""How long the end of a session waits for the audit to take what is left."""
HALF_CLOSED_S = 10.0
"""A client has ended and nothing moves: so long is the server's answer to its last words waited for."""

CONNECTIONS = 4096
"""At once, of all users; one more is closed at once."""
STRANGERS = 512
"""Beside those, connections whose client has not proved yet who it is; the oldest gives way to one more."""
STRANGERS_OF_ADDRESS = 64
"""Of those, from one address (IPv6: one /64); the oldest of that address gives way."""
CONNECTIONS_OF_USER = 1024
"""Of those, of one user; one more is refused."""
TLS_S = 15.0
"""For a client's handshake."""
LOGIN_S = 90.0
"""From there until the session's bytes flow: both logins, the decision and dialling."""
CLEAR_AWAY_S = 15.0
"""For an engine whose session's bytes have ceased to flow, to end what runs on at the server."""
SERVER_DIAL_S = 60.0
"""For name, TCP and, once more, TLS to a database."""
AGENT_NAME_KEPT = 256
"""Characters of what a client calls itself."""

CREDENTIALS_REUSED_S = 5 * 60.0
"""A certificate for a database user is shown again for so long; it lives longer (`auth`)."""
CREDENTIALS_MAX = 4096
"""Pairs of database and user that are remembered."""
SIGN_CALL_S = 15.0
ANNOUNCE_CALL_S = 20.0

HEALTH_EVERY_S = 30.0
HEALTH_TIMEOUT_S = 5.0
HEALTH_TICK_S = 1.0
"""No database is asked more often."""
HEALTH_AGAIN_S = 2.0
"""When there was no certificate to ask it with."""
HEALTH_AT_ONCE = 16
HEALTHY_AFTER = 2
UNHEALTHY_AFTER = 1
"""Checks in a row that change a database's state, where no health_check_config says otherwise."""
