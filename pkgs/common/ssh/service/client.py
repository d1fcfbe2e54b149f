"""Who is at the other end of a connection."""

from __future__ import annotations

from dataclasses import dataclass

from pkgs.common.pki.identity import Identity


@dataclass(slots=True)
class Client:
    """Somebody who has logged in. What they may do is asked anew each time; who they are never changes."""

    identity: Identity
    login: str
    blob: bytes
    """The certificate that they proved to hold."""
    source: str
    """The address they come from now."""
