"""For protocols whose statements and answers are not understood well enough to restrict them."""

from __future__ import annotations

from pkgs.agents.db.engine import Engine
from pkgs.common.access.protocols.dbpolicy import fields
from pkgs.common.errors import DeniedError
from pkgs.common.resources.role import DbConditions


def check_restricts(engine: Engine, policy: DbConditions, protocol: str) -> None:
    """Raises DeniedError when the session may do less than everything and the engine cannot see to that: it
    is refused, not let go too far."""
    if not engine.restricts and (named := ", ".join(fields(policy))):
        raise DeniedError(
            f"your roles restrict this session by {named}, which is not possible with {protocol}",
            hint="restrict the database user at the server, and ask for a role without these options",
            reasons=(f"{protocol} sessions cannot be restricted by {named}",),
        )
