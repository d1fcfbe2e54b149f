"""Live sessions of several people, as clients see them: listing, joining, asking others to come.

Promises the same listing in tsh and tctl. Must not know how a session is run.
"""
