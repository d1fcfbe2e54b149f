"""Every size, count and wait of Redis sessions."""

FIRST_COMMAND_S = 60.0
"""For a client's first command: nothing is decided before it."""
FIRST_COMMAND_MAX = 8 * 1024
"""Bytes of it that are looked at, for the user it names."""
SERVER_LOGIN_S = 60.0
"""For connecting to the server, TLS and its login together."""
LOGIN_REPLY_MAX = 4 * 1024

ARGUMENTS_KEPT = 64
"""Arguments of one command in the audit log."""
ARGUMENT_KEPT = 256
"""Bytes of one of them."""
HELD_MAX = 128 * 1024
"""Bytes of a command whose name is not all there, or that is answered by us."""
ERROR_KEPT = 1024
"""Characters of a server's error in the audit log."""
ANSWERS_PENDING_MAX = 4096
"""Answers of ours that wait for their turn among the server's."""
