"""For protocols whose statements and answers are not understood well enough to restrict them."""

from __future__ import annotations

from pkgs.agents.db.engine import Granted
from pkgs.common.access.protocols.dbpolicy import fields
from pkgs.common.errors import DeniedError


def check_unrestricted(granted: Granted, protocol: str) -> None:
    """Raises DeniedError when the session may do less than everything: it is refused, not let go too far."""
    if named := ", ".join(fields(granted.policy)):
        raise DeniedError(
            f"your roles restrict this session by {named}, which is not possible with {protocol}",
            hint="restrict the database user at the server, and ask for a role without these options",
        )
