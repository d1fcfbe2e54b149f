"""Every bound of the access lists."""

LISTS_MAX = 10_000
MEMBERS_MAX = 10_000
"""Of one list."""
MEMBERSHIPS_MAX = 1000
"""Lists that one user, or one list, is a member of itself; likewise that it owns."""
REASON_MAX = 1000
NOTES_MAX = 4000
REMOVED_AT_ONCE = 100
"""Members that one review removes."""
REVIEWS_KEPT = 100
"""Newest reviews of a list; the audit log has all of them."""
OPERATIONS_AT_ONCE = 400
"""Of what is cleared away in one commit; leaves room for what the commit is about."""
EVENTS_AT_ONCE = 256
"""Events of one change that are written together."""
