"""X11 forwarding on a node (RFC 4254, 6.3): a display of the session's own, behind which is the client's.

A display is a unix socket, as a file and under its abstract name, that only the login's user (and root) may
connect to; no port is opened. The real `xauth` writes the client's cookie, which is a false one that the
client exchanges, into a file of the display's own, and both go with the session. The service decides and
audits; the connection's process, as the login's user, does the rest.
"""
