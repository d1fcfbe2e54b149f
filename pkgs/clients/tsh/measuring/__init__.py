"""How long things take: round trips (`tsh latency ssh`), whole commands under load (`tsh bench ssh`).

Promises times that count from when a thing was due, and figures that say of how many measurements they are.
Must not know verbs.
"""
