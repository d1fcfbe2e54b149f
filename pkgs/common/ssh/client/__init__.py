"""Outgoing SSH connections: to agents and to OpenSSH servers, by certificate both ways.

`connect` logs in or raises; then `Connection` opens channels, whose events go to a `ChannelOwner`. The server
must show a host certificate of a trusted authority for its name, or the very key that was pinned; nothing is
asked of a user, and nothing is believed at first sight. `run` is the whole of it for one command. Must not
know a service, a profile or a user's files.
"""
