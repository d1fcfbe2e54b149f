"""Every bound of the storage room."""

MAX_KEY_BYTES = 2048
MAX_VALUE_BYTES = 1_000_000
"""Size of one stored object, as the field's users know it."""
MAX_OPERATIONS = 512
"""Operations in one commit."""
RANGE_PAGE = 1000
WATCH_QUEUE = 8192
"""Changes a watcher may be behind before it must resync."""
GROUP_COMMIT = 256
"""Commits that share one fsync at most."""
SWEEP_BATCH = 500
BUSY_TIMEOUT_S = 10.0
TINYDB_COMFORTABLE = 1000
"""Documents above which TinyDB's whole-file writes are felt; a warning says so."""
