"""The preset roles: what every cluster has from its first start, and how later versions add to them.

Presets are ordinary roles with a label. An administrator may change and delete them; what they changed stays
theirs, as far as `with_missing_rules` says. A rule that labels all objects of databases is there unless there
is another.
"""

from __future__ import annotations

import msgspec

from pkgs.common.resources.defaults import RO, RW, rules_for
from pkgs.common.resources.kinds.discovery import (
    DbObjectImportRule,
    ImportRuleSpec,
    ObjectMapping,
    ObjectMatch,
)
from pkgs.common.resources.metadata import Metadata
from pkgs.common.resources.role import (
    Conditions,
    KubernetesResource,
    Labels,
    LabelValues,
    McpPermission,
    PortForwardingMode,
    RecordSession,
    RequestConditions,
    ReviewConditions,
    Role,
    RoleOptions,
    RoleSpec,
    Rule,
    SshPortForwarding,
)

PRESET_LABELS = {"teleport.internal/resource-type": "preset"}
FIRST_PRESETS = ("access", "editor", "auditor")
"""Those of the first version, which kept no record of what it had made."""
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
    "access_request",
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

_REQUESTABLE = ["access", "group-access"]

_LISTED = [
    "node",
    "app",
    "app_server",
    "db",
    "db_server",
    "db_service",
    "kube_cluster",
    "kube_server",
    "windows_desktop",
    "windows_desktop_service",
    "user_group",
]

_TERRAFORM_RW = [
    "access_list",
    "access_monitoring_rule",
    "app",
    "auth_connector",
    "autoupdate_config",
    "autoupdate_version",
    "bot",
    "cluster_auth_preference",
    "cluster_maintenance_config",
    "cluster_networking_config",
    "db",
    "device",
    "discovery_config",
    "dynamic_windows_desktop",
    "github",
    "health_check_config",
    "installer",
    "integration",
    "lock",
    "login_rule",
    "node",
    "oidc",
    "okta_import_rule",
    "role",
    "saml",
    "session_recording_config",
    "spiffe_federation",
    "static_host_user",
    "token",
    "trusted_cluster",
    "user",
    "vnet_config",
    "workload_identity",
]


def _preset(name: str, description: str, options: RoleOptions, allow: Conditions) -> Role:
    return Role(
        metadata=Metadata(name=name, description=description, labels=PRESET_LABELS),
        spec=RoleSpec(options=options, allow=allow),
    )


def preset_roles() -> list[Role]:
    """All of them as a new cluster gets them; `access`, `editor` and `auditor` come first."""
    return [*_for_people(), *_for_requests(), *_for_devices(), *_for_programs()]


def _for_people() -> list[Role]:
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
                *rules_for(_EDITOR_RW, RW),
                *rules_for(["integration", "security_report", "audit_query"], [*RW, "use"]),
                *rules_for(["device"], [*RW, "create_enroll_token", "enroll"]),
                *rules_for(["db_service", "instance"], RO),
            ]
        ),
    )
    auditor = _preset(
        "auditor",
        "Review cluster events and replay sessions",
        RoleOptions(record_session=RecordSession(desktop=False)),
        Conditions(
            logins=[_NO_LOGIN],
            rules=[*rules_for(_AUDITOR_RO, RO), *rules_for(["security_report", "audit_query"], [*RO, "use"])],
        ),
    )
    return [access, editor, auditor]


def _for_requests() -> list[Role]:
    return [
        _preset(
            "reviewer",
            "Review access requests",
            RoleOptions(),
            Conditions(review_requests=ReviewConditions(roles=_REQUESTABLE, preview_as_roles=_REQUESTABLE)),
        ),
        _preset(
            "requester",
            "Request access to resources",
            RoleOptions(),
            Conditions(request=RequestConditions(search_as_roles=_REQUESTABLE)),
        ),
        _preset(
            "group-access",
            "Have access to all user groups",
            RoleOptions(),
            Conditions(group_labels=_EVERYTHING, rules=rules_for(["user_group"], RO)),
        ),
        _preset(
            "list-access-request-resources",
            "See every resource that can be requested; no login, no user, no group",
            RoleOptions(),
            Conditions(
                node_labels=_EVERYTHING,
                app_labels=_EVERYTHING,
                db_labels=_EVERYTHING,
                db_service_labels=_EVERYTHING,
                kubernetes_labels=_EVERYTHING,
                windows_desktop_labels=_EVERYTHING,
                group_labels=_EVERYTHING,
                rules=rules_for(_LISTED, RO),
            ),
        ),
    ]


def _for_devices() -> list[Role]:
    return [
        _preset(
            "device-admin",
            "Administer trusted devices",
            RoleOptions(),
            Conditions(rules=rules_for(["device"], [*RW, "create_enroll_token", "enroll"])),
        ),
        _preset(
            "device-enroll",
            "Enroll trusted devices",
            RoleOptions(),
            Conditions(rules=rules_for(["device"], ["enroll"])),
        ),
        _preset(
            "require-trusted-device",
            "Access every server, database and Kubernetes cluster, from trusted devices only",
            RoleOptions(device_trust_mode="required"),
            Conditions(
                logins=["{{internal.logins}}"],
                node_labels=_EVERYTHING,
                db_labels=_EVERYTHING,
                db_users=["*"],
                db_names=["*"],
                kubernetes_labels=_EVERYTHING,
                kubernetes_groups=[
                    "{{internal.kubernetes_groups}}",
                    "system:masters",
                    "developers",
                    "viewers",
                ],
                kubernetes_resources=[KubernetesResource(kind="*", namespace="*", name="*", verbs=["*"])],
            ),
        ),
    ]


def _for_programs() -> list[Role]:
    return [
        _preset(
            "terraform-provider",
            "Manage the cluster's resources from Terraform",
            RoleOptions(),
            Conditions(
                app_labels=_EVERYTHING,
                db_labels=_EVERYTHING,
                node_labels=_EVERYTHING,
                rules=rules_for(_TERRAFORM_RW, RW),
            ),
        ),
        _preset(
            "wildcard-workload-identity-issuer",
            "Issue credentials of every workload identity",
            RoleOptions(),
            Conditions(workload_identity_labels=_EVERYTHING, rules=rules_for(["workload_identity"], RO)),
        ),
        _preset(
            "mcp-user",
            "Use every MCP server and all of its tools",
            RoleOptions(),
            Conditions(app_labels={"teleport.internal/app-sub-kind": "mcp"}, mcp=McpPermission(tools=["*"])),
        ),
    ]


def import_all_objects() -> DbObjectImportRule:
    """Labels all objects of all databases; made at a start that finds no such rule."""
    variables = ("database", "database_service_name", "name", "object_kind", "protocol", "schema")
    mapping = ObjectMapping(
        match=ObjectMatch(table_names=["*"], view_names=["*"], procedure_names=["*"]),
        add_labels={name: f"{{{{obj.{name}}}}}" for name in variables},
    )
    return DbObjectImportRule(
        metadata=Metadata(name="import_all_objects", labels=PRESET_LABELS),
        spec=ImportRuleSpec(database_labels=[LabelValues(name="*", values=["*"])], mappings=[mapping]),
    )


def with_missing_rules(stored: Role, preset: Role) -> Role:
    """A stored preset role topped up with rules for kinds it mentions nowhere; others' roles unchanged."""
    if any(stored.metadata.labels.get(key) != value for key, value in PRESET_LABELS.items()):
        return stored
    conditions = (stored.spec.allow, stored.spec.deny)
    mentioned = {kind for side in conditions for rule in side.rules for kind in rule.resources}
    missing = [rule for rule in preset.spec.allow.rules if mentioned.isdisjoint(rule.resources)]
    if not missing:
        return stored
    allow = msgspec.structs.replace(stored.spec.allow, rules=[*stored.spec.allow.rules, *missing])
    return msgspec.structs.replace(stored, spec=msgspec.structs.replace(stored.spec, allow=allow))
