"""The verbs on bots, one per file, and what they share: the token as text.

Promises that a token is shown once, to whoever made it. Must not know how machines are kept.
"""
