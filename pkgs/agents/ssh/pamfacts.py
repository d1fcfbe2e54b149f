"""What PAM's modules are told of a visitor beyond the login: who they are in the cluster."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from pkgs.common.access.matching.traits import expand
from pkgs.common.pki.identity import Identity


@dataclass(frozen=True, slots=True)
class PamFacts:
    """PAM as the configuration asks for it."""

    service: str = ""
    """Name of its file below /etc/pam.d; empty: PAM is not asked."""
    environment: Mapping[str, str] = field(default_factory=dict)
    """Variables of its own; values may be templates as in roles."""

    def of(self, identity: Identity, login: str) -> dict[str, str]:
        """Raises InputError for a template that is not understood."""
        own = {
            name: ",".join(expand(value, identity.traits).values) for name, value in self.environment.items()
        }
        found = {
            **own,
            "TELEPORT_USERNAME": identity.name,
            "TELEPORT_LOGIN": login,
            "TELEPORT_ROLES": " ".join(identity.roles),
        }
        return {name: value for name, value in found.items() if "\0" not in value}
