"""What every cluster begins with: the preset roles, the implicit role, and the singletons."""

from __future__ import annotations

import msgspec

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
    KubernetesResource,
    Labels,
    PortForwardingMode,
    RecordSession,
    Role,
    RoleOptions,
    RoleSpec,
    Rule,
    SshPortForwarding,
)

PRESET_LABELS = {"teleport.internal/resource-type": "preset"}
ORIGIN_LABEL = "teleport.dev/origin"

RW = ["list", "create", "read", "update", "delete"]
RO = ["list", "read"]
NO_SECRETS = ["list", "readnosecrets"]
_NO_LOGIN = "no-login-2b8f6a3e-7c1d-4e5f-9a0b-6d3c8e1f4a72"
"""Keeps a role without logins from ever matching one: no OS user has such a name."""
_EVERYTHING: Labels = {"*": "*"}

_EDITOR_RW = [
    "user",
    "role",
    "bot",
    "crown_jewel",
    "db_object_import_rule",
    "oidc",
    "saml",
    "github",
    "oidc_request",
    "saml_request",
    "github_request",
    "cluster_audit_config",
    "cluster_auth_preference",
    "auth_connector",
    "cluster_name",
    "cluster_networking_config",
    "session_recording_config",
    "external_audit_storage",
    "ui_config",
    "trusted_cluster",
    "remote_cluster",
    "token",
    "connection_diagnostic",
    "db",
    "database_certificate",
    "installer",
    "login_rule",
    "saml_idp_service_provider",
    "user_group",
    "plugin",
    "okta_import_rule",
    "okta_assignment",
    "lock",
    "billing",
    "cluster_alert",
    "access_list",
    "node",
    "discovery_config",
    "access_graph",
    "server_info",
    "access_monitoring_rule",
    "app_server",
    "vnet_config",
    "bot_instance",
    "access_graph_settings",
    "spiffe_federation",
    "notification",
    "static_host_user",
    "user_task",
]

_AUDITOR_RO = [
    "session",
    "event",
    "session_tracker",
    "cluster_alert",
    "instance",
    "bot_instance",
    "notification",
]

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


def _rules(kinds: list[str], verbs: list[str]) -> list[Rule]:
    return [Rule(resources=[kind], verbs=verbs) for kind in kinds]


def _preset(name: str, description: str, options: RoleOptions, allow: Conditions) -> Role:
    return Role(
        metadata=Metadata(name=name, description=description, labels=PRESET_LABELS),
        spec=RoleSpec(options=options, allow=allow),
    )


def preset_roles() -> list[Role]:
    """`access`, `editor` and `auditor` as a new cluster gets them."""
    forwarding = SshPortForwarding(
        local=PortForwardingMode(enabled=True), remote=PortForwardingMode(enabled=True)
    )
    access = _preset(
        "access",
        "Access cluster resources",
        RoleOptions(forward_agent=True, ssh_port_forwarding=forwarding),
        Conditions(
            logins=["{{internal.logins}}"],
            node_labels=_EVERYTHING,
            app_labels=_EVERYTHING,
            db_labels=_EVERYTHING,
            db_service_labels=_EVERYTHING,
            kubernetes_labels=_EVERYTHING,
            windows_desktop_labels=_EVERYTHING,
            db_users=["{{internal.db_users}}"],
            db_names=["{{internal.db_names}}"],
            db_roles=["{{internal.db_roles}}"],
            kubernetes_groups=["{{internal.kubernetes_groups}}"],
            kubernetes_users=["{{internal.kubernetes_users}}"],
            kubernetes_resources=[KubernetesResource(kind="*", namespace="*", name="*", verbs=["*"])],
            windows_desktop_logins=["{{internal.windows_logins}}"],
            aws_role_arns=["{{internal.aws_role_arns}}"],
            azure_identities=["{{internal.azure_identities}}"],
            gcp_service_accounts=["{{internal.gcp_service_accounts}}"],
            rules=[
                Rule(resources=["event"], verbs=RO),
                Rule(
                    resources=["session"],
                    verbs=["read", "list"],
                    where="contains(session.participants, user.metadata.name)",
                ),
                Rule(resources=["instance"], verbs=RO),
                Rule(resources=["cluster_maintenance_config"], verbs=RO),
            ],
        ),
    )
    editor = _preset(
        "editor",
        "Edit cluster configuration",
        RoleOptions(
            forward_agent=True, ssh_port_forwarding=forwarding, record_session=RecordSession(desktop=False)
        ),
        Conditions(
            rules=[
                *_rules(_EDITOR_RW, RW),
                *_rules(["integration", "security_report", "audit_query"], [*RW, "use"]),
                *_rules(["device"], [*RW, "create_enroll_token", "enroll"]),
                *_rules(["db_service", "instance"], RO),
            ]
        ),
    )
    auditor = _preset(
        "auditor",
        "Review cluster events and replay sessions",
        RoleOptions(record_session=RecordSession(desktop=False)),
        Conditions(
            logins=[_NO_LOGIN],
            rules=[*_rules(_AUDITOR_RO, RO), *_rules(["security_report", "audit_query"], [*RO, "use"])],
        ),
    )
    return [access, editor, auditor]


IMPLICIT_ROLE = Role(
    metadata=Metadata(name="default-implicit-role"),
    spec=RoleSpec(
        options=RoleOptions(
            port_forwarding=False, record_session=RecordSession(desktop=False), enhanced_recording=()
        ),
        allow=Conditions(
            rules=[
                *_rules(_IMPLICIT_RO, RO),
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


def with_missing_rules(stored: Role, preset: Role) -> Role:
    """A stored preset role topped up with rules for kinds it mentions nowhere; others' roles unchanged."""
    if stored.metadata.labels.get("teleport.internal/resource-type") != "preset":
        return stored
    conditions = (stored.spec.allow, stored.spec.deny)
    mentioned = {kind for side in conditions for rule in side.rules for kind in rule.resources}
    missing = [rule for rule in preset.spec.allow.rules if mentioned.isdisjoint(rule.resources)]
    if not missing:
        return stored
    allow = msgspec.structs.replace(stored.spec.allow, rules=[*stored.spec.allow.rules, *missing])
    return msgspec.structs.replace(stored, spec=msgspec.structs.replace(stored.spec, allow=allow))
