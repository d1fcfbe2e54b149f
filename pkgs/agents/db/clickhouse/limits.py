"""Every size and wait of ClickHouse sessions."""

FIRST_REQUEST_S = 60.0
"""For the head of a client's first request: nothing is decided before it."""
SERVER_CONNECT_S = 60.0
HEAD_MAX = 128 * 1024
"""Bytes of a request's or response's head: a statement may be in the address."""
FIELDS_MAX = 1000
"""Fields of an address."""
AHEAD_MAX = 256 * 1024
"""Bytes that a client may send before it has the answer to its last request."""
STATEMENT_KEPT = 64 * 1024
"""Bytes of a statement that are looked at and audited; the rest only goes through."""
PARAMETER_KEPT = 1024
PARAMETERS_KEPT = 256
ERROR_KEPT = 4 * 1024
"""Bytes of a server's error that are looked at."""
