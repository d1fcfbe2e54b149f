"""Reaching databases: which there are, a certificate for one, and a local port that leads to it.

Must not know any database's protocol: what a native client needs to be told is in `clients`, and all bytes
are relayed as they are.
"""
