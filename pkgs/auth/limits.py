"""Every bound of the Auth Service: sizes, counts, times."""

from __future__ import annotations

from pkgs.common.access.explaining.explain import MAX_LOGINS

# Passwords and second factors.
PASSWORD_MIN = 12
PASSWORD_MAX = 128
PASSWORD_INPUT_MAX = 1024
"""Longer input is refused before any work is spent on it."""
ARGON2_TIME = 2
ARGON2_MEMORY_KIB = 64 * 1024
ARGON2_LANES = 1
"""Measured here: about 0.1 s of one core for a check."""
HASH_WORKERS = 2
HASH_WAITING = 64
"""Password checks that may wait for a worker; the next one is told to come back later."""
TOTP_PERIOD_S = 30
TOTP_DIGITS = 6
TOTP_SKEW = 1
TOTP_SECRET_BYTES = 20

# Lockout and throttles.
FAILURES_TO_LOCK = 5
FAILURE_WINDOW_S = 30 * 60.0
LOCK_S = 30 * 60.0
LOGINS_WAITING_PER_NAME = 8
GUESSES_PER_MINUTE = 20
GUESSES_BURST = 40
"""Logins, and likewise uses of an invitation, per source address; an IPv6 source is its /64."""
JOINS_PER_MINUTE = 120
JOINS_BURST = 480
"""The same for joins: a token cannot be guessed, and a rack of servers behind one address starts at once."""

# Invitations.
INVITE_TTL_MAX_S = 48 * 3600
RESET_TTL_MAX_S = 24 * 3600
TOKEN_BYTES = 16
"""Random bytes of invitation and join tokens, in hex."""
TOKEN_TEXT_MAX = 256
TOKEN_TTL_MAX_S = 365 * 24 * 3600
TOKEN_TTL_MIN_S = 1

# Certificates.
BACKDATE_S = 60.0
MIN_TTL_S = 60.0
MAX_USER_TTL_S = 30 * 3600.0
SIGNED_USER_TTL_MAX_S = 10 * 365 * 24 * 3600.0
"""`tctl auth sign` on the Auth host, still capped by the roles."""
GRANTS_REMEMBERED = 1024
"""Combinations of roles and traits whose merged options and logins are kept."""
OPENSSH_CERT_TTL_S = 300.0
"""Of the certificates that proxies log in to servers without an agent with."""
OPENSSH_HOST_CERT_TTL_S = 24 * 3600.0
DATABASE_CERT_TTL_S = 15 * 60.0
"""Of a client certificate by which an agent logs in to a database. It is shown at the beginning only."""
DATABASE_SERVER_CERT_TTL_MAX_S = 10 * 365 * 24 * 3600.0
DATABASES_OF_ONE_AGENT = 10_000
HOST_CERT_TTL_S = 30 * 24 * 3600.0
"""Hosts renew at half of it by themselves."""
MAX_PRINCIPALS = MAX_LOGINS
JOIN_REPEAT_S = 3600.0
"""How long a join that was granted is answered again when the very same request comes once more."""
HOST_FORGOTTEN_S = 24 * 3600.0
"""After the last certificate of a host has expired, the host itself is forgotten."""

# Machines.
BOT_CERT_TTL_S = 3600.0
"""Life of a machine's own certificates when it asks for none."""
BOT_CERT_TTL_MAX_S = 7 * 24 * 3600.0
BOT_TOKEN_TTL_S = 3600
BOT_TOKEN_TTL_MAX_S = 7 * 24 * 3600
BOT_FORGOTTEN_S = 3600.0
"""After the last certificate of an instance has expired, the instance itself is forgotten."""
MAX_BOT_INSTANCES = 1000
"""Instances of one bot."""
BOT_AUTHENTICATIONS_KEPT = 10
BOT_HEARTBEATS_KEPT = 10
BOT_TRIES = 8
"""How often a write is tried anew that another one was quicker than."""
BOT_HOSTNAME_MAX = 253

# Users.
MAX_USER_ROLES = 100
MAX_TRAITS = 100
MAX_TRAIT_VALUES = 1000
MAX_TRAIT_TEXT = 1000
HELD_ROLES_MAX = 300
"""Roles of one user, their own and those that access lists give."""
HELD_TRAIT_VALUES_MAX = 2000
"""The same for the values of all traits together, where lists give some."""

# Access requests; what one may hold is in `common/access/requests/limits.py`.
PENDING_REQUESTS_PER_USER = 32
REQUESTS_PER_USER = 200
"""Decided ones included: they go in one commit when the user goes."""
REQUESTS_KEPT = 10_000
"""Requests in the cluster, decided ones included until they expire."""
REVIEW_TRIES = 8
"""How often a review is counted anew because another one came in between."""

# Inventory.
HEARTBEAT_TTL_MIN_S = 10
HEARTBEAT_TTL_MAX_S = 3600
MAX_LABELS = 100
MAX_LABEL_TEXT = 1024
CHUNK = 50
"""Resources in one item of a listing or of a watch's snapshot."""
CHUNK_BYTES = 512 * 1024
"""Encoded size of one item of a stream at which it is cut further; a frame may have twice that."""
HEARTBEAT_BYTES = 64 * 1024
"""Encoded size of what a host may tell about itself."""
WATCH_QUEUE_SERVER = 8192
WATCH_QUEUE_AGENT = 1024
"""Changes a watching host may be behind: proxies and others, before it must watch anew."""
SWEEP_EVERY_S = 5.0
AUTH_SERVER_TTL_S = 600.0

# Changes of resources.
WRITE_TRIES = 5
"""How often an unconditional write is checked and tried again when somebody else was faster."""
ASSUMED_MAX = 10_000
"""Resources that a dry run may take as made by the steps before it."""

# Leases of connections.
LEASE_TTL_S = 120.0
"""An agent that died gives its users' places back after so long."""
LEASE_GATE_S = 24 * 3600.0
LEASE_TRIES = 20
"""How often a place is counted anew because another connection of the user began in between."""
LEASES_PER_CALL = 200

# Calls.
LAST_CALLS_S = 5.0
"""At the end of the service, for calls that were begun to come to their ends."""

# Audit.
MAX_EVENTS_PER_CALL = 512
EVENT_FUTURE_S = 24 * 3600.0
SEARCH_LIMIT_MAX = 10_000
SEARCH_PAGE = 200
VERIFY_PAGE = 1000
FOLLOW_IDLE_S = 30.0

# Headless logins.
HEADLESS_TTL_S = 60.0
HEADLESS_WAITING = 500
HEADLESS_OF_SOURCE = 10
HEADLESS_OF_USER = 10

# Recordings.
MAX_RECORDING_BYTES = 1 << 30
RECORDING_CHUNK = 128 * 1024
RECORDING_START_WAIT_S = 10.0
"""How long an upload waits for the event that says whose session it is."""
RECORDING_LIST_MAX = 1000
SCREEN_TEXT_MAX = 4 * 1024 * 1024
"""Characters of one session's screen that are indexed for searching."""
SCREEN_LINE_COST = 32
"""Counted for each line beside its text."""
LOCKED_ROWS_READ = 8
"""Batches of lines of encrypted recordings that are held at once,"""
LOCKED_LINES_SCANNED = 512 * 1024 * 1024
"""and bytes of them that are gone through for one answer of a search."""
SCREEN_PATTERN_MAX = 200
SCREEN_HITS_SCANNED = 20_000
"""Lines that one search looks at, most of them perhaps of sessions that its caller may not see."""
PRUNED_AT_ONCE = 200
"""Recordings that one call, or one round of the retention, deletes."""
RETENTION_EVERY_S = 600.0
MAX_UPLOADS = 512
"""Uploads going on at once over all hosts; a session that is recorded live is one for as long as it lasts."""
MAX_UPLOADS_PER_HOST = 64
"""Of these for one host, so that none can take every place."""
LATEST_TIME_S = 253_402_300_800.0
"""The year 10000, which no calendar of ours knows."""
DECISIONS_AT_ONCE = 200
"""Decisions of one listing of grants between which other calls get their turn."""
