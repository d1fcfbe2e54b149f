"""What every cluster begins with besides the preset roles: the implicit role, and the singletons."""

from __future__ import annotations

from pkgs.common.resources.kinds import (
    AuthPreference,
    ClusterName,
    ClusterNameSpec,
    NetworkingConfig,
    RecordingConfig,
    Resource,
)
from pkgs.common.resources.metadata import Metadata
from pkgs.common.resources.registry import SINGLETONS
from pkgs.common.resources.role import (
    Conditions,
    RecordSession,
    Role,
    RoleOptions,
    RoleSpec,
    Rule,
)

ORIGIN_LABEL = "teleport.dev/origin"

RW = ["list", "create", "read", "update", "delete"]
RO = ["list", "read"]
NO_SECRETS = ["list", "readnosecrets"]
_IMPLICIT_RO = [
    "node",
    "proxy",
    "auth_server",
    "reverse_tunnel",
    "cluster_auth_preference",
    "cluster_name",
    "ssh_session",
    "app_server",
    "remote_cluster",
    "kube_server",
    "db_server",
    "db",
    "app",
    "windows_desktop",
    "windows_desktop_service",
    "kube_cluster",
]


def rules_for(kinds: list[str], verbs: list[str]) -> list[Rule]:
    """One rule for each kind."""
    return [Rule(resources=[kind], verbs=verbs) for kind in kinds]


IMPLICIT_ROLE = Role(
    metadata=Metadata(name="default-implicit-role"),
    spec=RoleSpec(
        options=RoleOptions(
            port_forwarding=False, record_session=RecordSession(desktop=False), enhanced_recording=()
        ),
        allow=Conditions(
            rules=[
                *rules_for(_IMPLICIT_RO, RO),
                Rule(resources=["cert_authority"], verbs=NO_SECRETS),
                Rule(resources=["usage_event"], verbs=["create"]),
            ]
        ),
    ),
)
"""Never stored; every set of roles ends with it."""


def default_singletons(cluster_name: str, cluster_id: str) -> list[Resource]:
    """The cluster-wide settings in their default form, marked as defaults."""
    found: list[Resource] = [
        ClusterName(
            metadata=Metadata(name=SINGLETONS["cluster_name"]),
            spec=ClusterNameSpec(cluster_name=cluster_name, cluster_id=cluster_id),
        )
    ]
    for cls in (AuthPreference, NetworkingConfig, RecordingConfig):
        name = SINGLETONS[str(cls.__struct_config__.tag)]
        found.append(cls(metadata=Metadata(name=name, labels={ORIGIN_LABEL: "defaults"})))
    return found
