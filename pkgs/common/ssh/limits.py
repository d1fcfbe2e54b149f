"""Every limit of this room, in one place. Attacks A10, A43, A54 and A66 test them."""

from __future__ import annotations

LOGIN_GRACE_S = 30
"""From accept to a verified login, banner and key exchange included; then the process dies."""
BANNER_TIMEOUT_S = 10.0
MAX_BANNER_LINE = 255
MAX_PACKET = 256 * 1024
"""Longest packet a peer may announce; more is a broken or hostile peer."""
READ_AHEAD = 64 * 1024
"""Bytes that are read at once, for as many packets as they hold."""
WINDOW = 2 * 1024 * 1024
"""Larger windows slow OpenSSH clients down (measured)."""
CHANNEL_PACKET = 32 * 1024
CHUNK = 32 * 1024 - 64
"""Payload that fills one packet of an OpenSSH peer."""
MIN_REMOTE_PACKET = 512
WINDOW_STEP = WINDOW // 8
"""Bytes consumed before the peer is granted more."""
MAX_CHANNELS = 256
"""Open at once in one connection."""
MAX_CHANNEL_OPENS = 100_000
"""In the life of one connection."""
MAX_PENDING_OPENS = 64
"""Channels that this side asked for and the peer has not answered."""
UNREAD_S = 60.0
"""How long the reader of a closed stream may leave what it was sent."""
MAX_BIND_HOST = 1024
"""Characters of the address that a client wants listened on."""
MAX_REQUESTS_PER_CHANNEL = 100_000
MAX_GLOBAL_REQUESTS = 100_000
MAX_REQUEST = 192 * 1024
"""Bytes of one channel or global request: the longest command that a kernel takes, and then some."""
MAX_AUTH_ATTEMPTS = 20
"""Requests before a login. An agent offers every key it holds."""
MAX_LOGIN_NAME = 255
MAX_CERT_BLOB = 64 * 1024
MAX_DEFERRED = 64 * 1024 * 1024
"""Bytes held back while keys are exchanged; the windows of the channels keep it far below."""
KEX_BURST = 20
KEX_PER_S = 2.0
"""Key exchanges, hence host signatures, that one connection may ask for before its login."""
REKEY_PER_S = 20.0
"""The same of a user, who waits for more than that: `RekeyLimit=1M` on a fast line asks for hundreds."""
MIN_RSA_BITS = 2048

MAX_SESSIONS = 32
"""Of one connection."""
RECORD_HEAD = 1024 * 1024
"""Output of a command without a terminal that is recorded; a mark follows where it is cut."""
MAX_COMMAND = 128 * 1024
"""The kernel's own bound for one argument."""
MAX_SHOWN_COMMAND = 16 * 1024
"""Of a command, in audit events and recordings."""
MAX_TERM = 64
MAX_ENV_VARS = 32
MAX_ENV_VALUE = 4096
RESIZE_REST_S = 0.25
"""Terminal sizes that follow one another faster are recorded as one."""
FAREWELL_S = 0.25
"""For a client to show why its connection ends, before it does."""

MAX_MESSAGE = 96 * 1024
"""One message between a connection's process and its service."""
CALL_TIMEOUT_S = 30.0
"""How long a connection's process waits for the service's answer."""
MAX_STARTING = 128
"""Connections that have not logged in yet; further ones are closed."""
MAX_STARTING_OF_SOURCE = MAX_STARTING // 2
"""The same from one source address (IPv6: one /64)."""
SPAWN_BACKLOG = 512
"""Connections handed to the spawner and not yet forked."""
