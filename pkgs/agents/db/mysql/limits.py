"""Every size, count and wait of MySQL sessions."""

LOGIN_S = 30.0
"""For the client's part of the login."""
SERVER_LOGIN_S = 60.0
"""For connecting to the server, TLS and its login together."""
KILL_S = 5.0
"""For telling the server to end what nobody waits for any more."""

STATEMENT_KEPT = 64 * 1024
"""Bytes of a command that are looked at and audited; the rest only goes through."""
ANSWER_KEPT = 4 * 1024
"""Bytes of an OK or an error that are looked at."""
PARAMETER_KEPT = 1024
"""Characters of one parameter in the audit log."""
PARAMETERS_KEPT = 256
"""Parameters of one execution in the audit log."""
PIPELINE_MAX = 4096
"""Commands of a client that wait for their answers."""
PREPARED_MAX = 16_384
"""Prepared statements of a session whose text and types are remembered: a server's own limit by default."""
PREPARED_KEPT = 4 * 1024
"""Characters of the text of one."""
VERSIONS_MAX = 10_000
"""Databases whose server version is remembered for the next greeting."""
VERSION_MAX = 64
"""Characters of one."""
