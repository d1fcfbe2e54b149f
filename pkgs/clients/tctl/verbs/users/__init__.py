"""The verbs on local users, one per file, and what they share: traits as flags, the invitation as text.

Promises that an invitation's secret is shown once, to the administrator. Must not know how users are kept.
"""
