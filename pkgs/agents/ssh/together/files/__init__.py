"""Files that are copied beside a session which needs company, once its moderators approve: `asking` in the
session, `beside` it the copying itself, and `request`, the state of both.
"""
