"""Every limit of this room, in one place."""

from __future__ import annotations

MAX_SCREEN = 255
XAUTH_S = 10.0
"""How long `xauth` may take. It works in a folder of its own, where nobody holds a lock."""
