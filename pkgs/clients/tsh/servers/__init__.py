"""Which servers a person means: listing, filters by label and by predicate, labels into host ids.

Promises the same filters in tsh and tctl. Must not know how a server is connected to.
"""
