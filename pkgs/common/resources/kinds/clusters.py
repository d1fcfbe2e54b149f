"""Other clusters: the roots this one trusts, and the leaves that trust it."""

from datetime import datetime
from typing import Literal

from pkgs.common.resources.metadata import Base, Spec


class RoleMapping(Spec, frozen=True, kw_only=True):
    """Roles of the root's users as roles of this cluster."""

    remote: str
    local: list[str]


class TrustedClusterSpec(Spec, frozen=True, kw_only=True):
    enabled: bool = True
    token: str = ""
    """Join token of the root; a secret."""
    web_proxy_addr: str = ""
    tunnel_addr: str = ""
    role_map: list[RoleMapping] = []


class TrustedCluster(Base, frozen=True, kw_only=True, tag="trusted_cluster"):
    version: str = "v2"
    spec: TrustedClusterSpec = TrustedClusterSpec()


class RemoteClusterStatus(Spec, frozen=True, kw_only=True):
    connection: Literal["", "online", "offline"] = ""
    last_heartbeat: datetime | None = None


class RemoteCluster(Base, frozen=True, kw_only=True, tag="remote_cluster"):
    """Made when a leaf joins; only its labels are for people to change."""

    version: str = "v3"
    status: RemoteClusterStatus = RemoteClusterStatus()
