"""Connections through the proxy: calls to the Auth Service, a user's stream to a server, OpenSSH's part.

Promises a start that imports sockets and TLS and nothing heavier, since OpenSSH runs it for each connection.
Must not know verbs, nor print anything.
"""
