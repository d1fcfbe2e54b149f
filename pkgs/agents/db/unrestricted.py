"""For protocols whose statements and answers are not understood well enough to restrict them."""

from __future__ import annotations

from pkgs.agents.db.engine import Granted
from pkgs.agents.db.policy import EVERYTHING
from pkgs.common.errors import DeniedError


def check_unrestricted(granted: Granted, protocol: str) -> None:
    """Raises DeniedError when the session may do less than everything: it is refused, not let go too far."""
    if granted.policy != EVERYTHING:
        raise DeniedError(
            f"your roles restrict what this session may do or see, which is not possible with {protocol}",
            hint="restrict the database user at the server, and ask for a role without such rules",
        )
