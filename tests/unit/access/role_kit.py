"""What the tests of options need beside `access_kit`."""

from __future__ import annotations

from collections.abc import Callable

from pkgs.common.resources.role import PortForwardingMode, Role, SshPortForwarding


def modes(local: bool | None, remote: bool | None) -> SshPortForwarding:
    return SshPortForwarding(
        local=PortForwardingMode(enabled=local), remote=PortForwardingMode(enabled=remote)
    )


def only(*names: str) -> Callable[[Role], bool]:
    """The roles with these names are in force, no other."""
    return lambda found: found.name in names
