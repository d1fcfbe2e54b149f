"""Constants of what command lines print."""

PROGRESS_AFTER_S = 1.0
"""A wait shorter than this shows nothing."""

MIN_CELL_WIDTH = 12
"""A column is never cut narrower than this to fit the terminal."""

MAX_ERROR_CHARS = 4000
"""A longer message from a peer is cut with a mark."""
OFFER_S = 1.0
"""How long the shell's completion waits for names from elsewhere."""
