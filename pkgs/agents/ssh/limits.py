"""Every limit of the SSH Service, in one place."""

from __future__ import annotations

DRAIN_S = 5.0
"""After the command ended, output that something else holds open is waited for this long."""
TERMINAL_REST_S = 0.25
"""The same for a terminal, which then only background jobs hold: once it was silent for so long."""
EOF_HOLD_S = 0.2
"""Between the end of a running command's output and telling the client of it."""
HANGUP_STEP_S = 2.0
"""Between SIGHUP, SIGTERM and SIGKILL to what a vanished client leaves behind."""
READS_PER_TURN = 16
"""Chunks one output may send before the others get their turn."""
PIPE_SIZE = 1024 * 1024
MOTD_LIMIT = 16 * 1024
USER_ENV_LINES = 1000
USER_ENV_BYTES = 256 * 1024
FORWARD_DIAL_S = 10.0
MAX_ADDRESSES = 16
"""Of a name that is forwarded to."""
MAX_LISTENERS = 16
"""Remote forwardings of one connection: of ports, and likewise of unix sockets."""
MAX_SOCKET_PATH = 107
"""Bytes of a unix socket's path: the kernel's own bound."""
MAX_REAL_PATH = 4096
"""Characters of what it is called once no link is left in it."""
LISTEN_BACKLOG = 64
EXIT_WAIT_S = 15.0
"""How long a process whose client is gone may take to end what it started."""
MAX_LASTLOG_UID = 1_000_000
"""The file has a place for every user id below the highest one: it is not grown further."""
RECORD_LOCK_TRIES = 20
RECORD_LOCK_PAUSE_S = 0.05
MAX_PAM_TEXT = 16 * 1024
"""Characters of one thing that a PAM module says."""
MAX_PAM_ENV = 128
"""Variables, and likewise texts, that are taken from PAM's modules."""
MAX_UNWRITTEN_OPERATIONS = 256
"""Audit events of one connection's file transfers that may be on their way to the disk."""
OPERATIONS_PER_WRITE = 64
OPERATIONS_WAIT_S = 0.1
"""How long one of them may wait for others to share a write with."""
MAX_FILES_PER_SUMMARY = 50
"""Closed files that one event tells of."""
SUMMARY_WAIT_S = 5.0
"""How long a closed file may wait for others to be told of with."""
