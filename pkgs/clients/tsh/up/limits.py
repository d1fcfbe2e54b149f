"""Every bound of this room."""

from __future__ import annotations

MAX_FILE_BYTES = 256 * 1024
MAX_DATABASES = 64
LOOK_S = 20.0
"""Between two looks at the files of the login, which another tsh may have renewed or deleted."""
RETRY_FIRST_S = 1.0
RETRY_MOST_S = 20.0
