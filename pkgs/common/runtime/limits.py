"""Every bound of this room, in one place."""

from typing import Final

DRAIN_S: Final = 10.0
"""How long SIGTERM lets open work end by itself."""
GRACEFUL_DRAIN_S: Final = 30 * 3600.0
"""The same for SIGQUIT."""
CLOSE_S: Final = 10.0
"""How long closing may take before the process ends anyway."""
MAX_OPEN_FILES: Final = 524_288
"""The soft limit of open files is raised to this, or to the hard limit."""

DEBUG_MAX_CONNECTIONS: Final = 16
DEBUG_IDLE_S: Final = 30.0
"""A connection to the debug service that sends nothing, or reads nothing, for this long is closed."""
DEBUG_MAX_HEAD: Final = 16 << 10
DEBUG_MAX_BODY: Final = 1024
MAX_PROFILE_S: Final = 300.0
DEFAULT_PROFILE_S: Final = 10.0
PROFILE_HZ: Final = 100
MAX_STACK: Final = 200
HEAP_TOP: Final = 50
