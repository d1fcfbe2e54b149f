"""Short ways to roles about access requests."""

from __future__ import annotations

from typing import Any

import msgspec

from pkgs.common.resources.metadata import Metadata
from pkgs.common.resources.role import (
    Conditions,
    RequestConditions,
    ReviewConditions,
    Role,
    RoleOptions,
    RoleSpec,
    TimeWindow,
)


def side(given: dict[str, Any]) -> Conditions:
    return Conditions(
        when=msgspec.convert(given.get("when", []), list[TimeWindow]),
        source=given.get("from", []),
        logins=given.get("logins", []),
        node_labels=given.get("node_labels", {}),
        namespaces=given.get("namespaces", ("default",)),
        request=msgspec.convert(given["request"], RequestConditions) if "request" in given else None,
        review_requests=msgspec.convert(given["review"], ReviewConditions) if "review" in given else None,
    )


def role(
    name: str, *, allow: dict[str, Any] | None = None, deny: dict[str, Any] | None = None, **options: Any
) -> Role:
    spec = RoleSpec(options=RoleOptions(**options), allow=side(allow or {}), deny=side(deny or {}))
    return Role(metadata=Metadata(name=name), spec=spec)


def asks(name: str, *roles: str, **more: Any) -> Role:
    """A role that lets its holder ask for these."""
    return role(name, allow={"request": {"roles": list(roles), **more}})
