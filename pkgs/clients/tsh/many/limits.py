"""Bounds of a command that runs on many servers."""

PARALLEL = 10
"""Servers at once when nothing is said."""

MAX_PARALLEL = 200
"""More at once than this is refused: each is a process, its proxy command and two pipes."""

MAX_LINE_BYTES = 16 * 1024
"""A longer line is printed in pieces, each with its label."""

READ_BYTES = 64 * 1024
"""Read from one pipe before the others have their turn."""

MAX_DRAIN_BYTES = 1024 * 1024
"""Read at most from the pipe of a child that has ended (a pipe's buffer; others may still hold its end)."""

TICK_S = 0.1
"""How often the end of a child is looked for while its pipes are silent."""

GRACE_S = 3.0
"""From the request to end to the kill."""

MAX_NAMED = 20
"""Failed servers that the summary names."""
