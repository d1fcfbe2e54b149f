"""Bounds of a comparison."""

MAX_QUESTIONS = 1_000
"""About one resource and one user; what is beyond is said to be left out."""
MAX_DIFFERENCES = 200_000
MAX_NAMES = 1_000
"""Names of resources that are kept of those that change alike; all are counted."""
