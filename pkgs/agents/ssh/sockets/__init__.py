"""Forwarding of unix sockets on a node, both ways (`ssh -L port:/a.sock`, `ssh -R /a.sock:port`).

The connection's process, which is the login's user by then, follows the links of a path once and holds on to
what it found; the service decides about the name that this has, and the process connects to it, or binds in
it, through the very descriptor. No link that changes in between leads elsewhere. Sockets of the service
itself are reached only where a role lists them by name (attack A20).
"""
