"""The services a host may run, in the order in which they start."""

from __future__ import annotations

from typing import Final, Literal

Service = Literal["auth", "proxy", "ssh", "db"]
SERVICES: Final[tuple[Service, ...]] = ("auth", "proxy", "ssh", "db")

SUMMARIES: Final[dict[Service, str]] = {
    "auth": "The Auth Service: users, roles, certificate authorities, joins, the audit log.",
    "proxy": "The Proxy Service: the one public port, reverse tunnels, the web API.",
    "ssh": "The SSH Service: certificate-checked, recorded sessions on this host.",
    "db": "The Database Service: databases of this network, with their own protocols.",
}
