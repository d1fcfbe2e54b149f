"""The verbs on the audit log, one per file, and how an event prints.

Promises that nothing an event holds reaches the terminal as an escape. Must not know how events are kept.
"""
