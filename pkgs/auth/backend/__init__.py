"""Storage of the Auth Service: one key-value interface, SQLite and TinyDB behind it.

Promises, whatever the backend: an acknowledged write survives `kill -9` and power loss, a commit happens
as a whole or not at all, ranges come in key order, and a subscriber hears of a change before the commit
that made it is acknowledged. Knows nothing of resources, users or certificates.
"""
