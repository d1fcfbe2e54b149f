"""What every agent shares: tunnels to the proxies, and labels made by commands.

An agent behind a firewall only dials out. Must not know any user protocol.
"""
