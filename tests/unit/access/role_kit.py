"""Roles for the tests of options, made from plain words."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from pkgs.common.resources.metadata import Metadata
from pkgs.common.resources.role import (
    Conditions,
    PortForwardingMode,
    Role,
    RoleOptions,
    RoleSpec,
    SshPortForwarding,
)


def role(
    name: str = "r", allow: Any = None, deny: Any = None, *, version: str = "v7", **options: Any
) -> Role:
    spec = RoleSpec(
        options=RoleOptions(**options), allow=Conditions(**(allow or {})), deny=Conditions(**(deny or {}))
    )
    return Role(metadata=Metadata(name=name), version=version, spec=spec)


def modes(local: bool | None, remote: bool | None) -> SshPortForwarding:
    return SshPortForwarding(
        local=PortForwardingMode(enabled=local), remote=PortForwardingMode(enabled=remote)
    )


def only(*names: str) -> Callable[[Role], bool]:
    """The roles with these names are in force, no other."""
    return lambda found: found.name in names
