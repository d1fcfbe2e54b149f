"""Every limit of sessions with PostgreSQL, in one place."""

from __future__ import annotations

LOGIN_S = 60.0
"""Each side's login: from the connection to its last word."""
ENCRYPTION_REQUESTS_MAX = 2
"""SSLRequest and GSSENCRequest, each once."""
LOGIN_MESSAGE_MAX = 64 * 1024
LOGIN_BYTES_MAX = 256 * 1024
"""Of what a server says before it is ready."""
CATALOG_BYTES_MAX = 8 * 1024 * 1024
"""Of the answer that tells which columns are to be masked."""
CANCEL_S = 10.0
"""To bring a cancel request to the server."""
CANCELS_MAX = 8
"""Cancel requests of one session on their way at once; more are dropped, as they would do nothing new."""

HELD_MAX = 320 * 1024
"""Bytes of a message that are looked at: 65535 parameters with a format each leave room for values."""
TEXT_KEPT = 64 * 1024
"""Bytes of a statement that reach the audit log."""
MASKED_TOKENS = 16 * 1024
"""Of a statement that may have a password: each costs about a microsecond."""
PARAMETERS_KEPT = 256
PARAMETER_KEPT = 1024
"""Bytes of each; and all together at most `TEXT_KEPT`."""
TEXT_MAX = 256 * 1024 * 1024
"""A longer statement is refused."""
JUDGED_MAX = 64 * 1024
"""A longer one, and in a session whose statements are judged."""
ROW_HELD_MAX = 4 * 1024 * 1024
"""A longer row, where columns are masked, ends its answer."""

DUE_HELD = 10_000
"""Answers outstanding at which the client is not read until the server has said something."""
DUE_MAX = 200_000
"""Answers outstanding that end the session: a server that answers with next to nothing."""
STATEMENTS_KEPT = 1024
"""Prepared statements whose parameter types are known, the latest."""
PORTALS_KEPT = 1024
NAME_KEPT = 63
"""Bytes of a name that tell it from others, as in PostgreSQL."""
