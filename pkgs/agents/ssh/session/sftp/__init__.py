"""File transfer over SFTP version 3, as the user that the connection's process has become.

Promises OpenSSH's behaviour, error codes and extensions to clients, bounded memory whatever they send, and
that every change and every opened file is told to the service. Must not know decisions, events or sockets.
"""
