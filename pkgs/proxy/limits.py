"""Every size, count and deadline of the proxy, in one place (attacks A42, A50, A54)."""

from __future__ import annotations

TUNNEL_PING_S = 5.0
"""A sign of life on each control connection; an agent that misses some dials anew."""
TUNNEL_SILENT_S = 15.0
"""A control connection that answers no ping for so long is dead, though TCP does not know it yet."""
TUNNEL_STALLED_S = 15.0
"""The same for one that takes nothing."""
TUNNEL_QUEUE = 1024
"""Dial requests waiting for an agent to take them."""
TUNNELS_PER_HOST = 8
SPARES = 4
"""Data connections kept ready per agent, so that a session does not wait for one to be dialled."""
SPARES_MAX = 16
"""More than this an agent may not leave with us."""
DATA_HELLO_S = 10.0
"""From accept to a data connection's first frame."""
AGENT_ANSWER_S = 8.0
"""From the end of a dial to the first byte of the server, which speaks first. A link that was cut is not
noticed by TCP for a minute; the user is let go before."""
AGENT_DIAL_S = 10.0
"""For an agent to answer a dial request, or to be dialled directly."""

CUT_AFTER_S = 2.0
"""For an agent to end what is no longer allowed, and tell the user; then the proxy cuts it."""
REVIEW_EVERY_S = 10.0
"""What passes is asked about at each change, and besides so often; agents, who decide, ask every second."""

DATABASE_AGENTS_TRIED = 3
"""Of several that serve a database."""

MYSQL_REQUEST_MAX = 16 * 1024
"""Bytes of what a client of the MySQL port says before TLS."""
MYSQL_EXPLAIN_S = 5.0
"""For a client of that port that cannot be passed on, to log in and read why."""

LINGER_S = 10.0
"""For a stranger to go when the Auth Service or the SSH server has ended its side."""

USER_DIAL_S = 10.0
"""From accept to a whole dial frame."""
TARGET_MAX = 512
MATCHES_SHOWN = 20
"""Servers listed when a name is ambiguous."""

BODY_MAX = 64 * 1024
"""Bytes of a request to the web API."""
HEADERS_MAX = 64
HEADER_LINE_MAX = 8190
HEADER_S = 10.0
"""From the first byte of a request, or the TLS handshake, to the end of its headers."""
BODY_S = 10.0
HANDLER_S = 30.0
ANSWER_TAKEN_S = 30.0
"""For a client to read answers enough that more can be sent."""
KEEPALIVE_S = 30.0
API_CALL_S = 15.0
"""For the Auth Service to answer a call made for a web request."""

PER_MINUTE = 20.0
BURST = 40
"""Unauthenticated requests that cost something (login, join, invitation), per source."""
PER_MINUTE_HIGH = 120.0
BURST_HIGH = 480
"""Unauthenticated requests that cost little (key export, message of the day), per source."""
FAILURE_PENALTY_S = 2.0
"""Added for each refused login, join or invitation; enforced from fifteen seconds on."""

RELOAD_CHECK_S = 1.0
"""Shortest interval at which certificate files are looked at."""
HEARTBEAT_TTL_S = 600
