"""How much a folder of configuration may hold."""

from __future__ import annotations

MAX_FILES = 5_000
MAX_ENTRIES = 50_000
"""Files and folders of whatever name that are looked at."""
MAX_FOLDER_DEPTH = 32
MAX_FILE_BYTES = 32 * 1024 * 1024
MAX_TOTAL_BYTES = 64 * 1024 * 1024
MAX_RESOURCES = 10_000
MAX_ERRORS_SHOWN = 20
"""Errors of one run that are printed; the rest is counted."""
MAX_DIFF_LINES = 5_000
"""Of either side; longer ones are told in numbers, for comparing them takes the square of it."""
