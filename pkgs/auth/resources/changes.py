"""The audit events of changed resources."""

from __future__ import annotations

from pkgs.auth.audit.journal import Journal
from pkgs.common.access.locks import set_fields
from pkgs.common.events import codes
from pkgs.common.events.codes import Kind
from pkgs.common.events.format import rfc3339
from pkgs.common.events.types import Event, FieldValue
from pkgs.common.resources.documents.differences import changes_of
from pkgs.common.resources.kinds import (
    AccessList,
    AccessListMember,
    App,
    Database,
    KubeCluster,
    Lock,
    Resource,
    Token,
    User,
)
from pkgs.common.resources.secrets import shown_name

_KINDS: dict[str, tuple[Kind | None, Kind | None, Kind | None]] = {
    "role": (codes.ROLE_CREATED, codes.ROLE_UPDATED, codes.ROLE_DELETED),
    "user": (codes.USER_CREATE, codes.USER_UPDATE, codes.USER_DELETE),
    "lock": (codes.LOCK_CREATED, codes.LOCK_CREATED, codes.LOCK_DELETED),
    "token": (codes.TOKEN_CREATE, codes.TOKEN_CREATE, None),
    "cluster_auth_preference": (None, codes.AUTH_PREFERENCE_UPDATE, None),
    "cluster_networking_config": (None, codes.NETWORKING_UPDATE, None),
    "session_recording_config": (None, codes.RECORDING_CONFIG_UPDATE, None),
    "github": (codes.GITHUB_CREATE, codes.GITHUB_UPDATE, codes.GITHUB_DELETE),
    "oidc": (codes.OIDC_CREATE, codes.OIDC_UPDATE, codes.OIDC_DELETE),
    "saml": (codes.SAML_CREATE, codes.SAML_UPDATE, codes.SAML_DELETE),
    "trusted_cluster": (
        codes.TRUSTED_CLUSTER_CREATE,
        codes.TRUSTED_CLUSTER_CREATE,
        codes.TRUSTED_CLUSTER_DELETE,
    ),
    "app": (codes.APP_CREATE, codes.APP_UPDATE, codes.APP_DELETE),
    "db": (codes.DB_CREATE, codes.DB_UPDATE, codes.DB_DELETE),
    "kube_cluster": (codes.KUBE_CREATE, codes.KUBE_UPDATE, codes.KUBE_DELETE),
    "health_check_config": (codes.HEALTH_CHECK_CREATE, codes.HEALTH_CHECK_UPDATE, codes.HEALTH_CHECK_DELETE),
    "discovery_config": (codes.DISCOVERY_CREATE, codes.DISCOVERY_UPDATE, codes.DISCOVERY_DELETE),
    "integration": (codes.INTEGRATION_CREATE, codes.INTEGRATION_UPDATE, codes.INTEGRATION_DELETE),
    "crown_jewel": (codes.CROWN_JEWEL_CREATE, codes.CROWN_JEWEL_UPDATE, codes.CROWN_JEWEL_DELETE),
    "static_host_user": (
        codes.STATIC_HOST_USER_CREATE,
        codes.STATIC_HOST_USER_UPDATE,
        codes.STATIC_HOST_USER_DELETE,
    ),
    "access_list": (codes.ACCESS_LIST_CREATE, codes.ACCESS_LIST_UPDATE, codes.ACCESS_LIST_DELETE),
    "access_list_member": (
        codes.ACCESS_LIST_MEMBER_CREATE,
        codes.ACCESS_LIST_MEMBER_UPDATE,
        codes.ACCESS_LIST_MEMBER_DELETE,
    ),
    "login_rule": (codes.LOGIN_RULE_CREATE, codes.LOGIN_RULE_CREATE, codes.LOGIN_RULE_DELETE),
    "bot": (codes.BOT_CREATE, codes.BOT_UPDATE, codes.BOT_DELETE),
    "device": (codes.DEVICE_CREATE, codes.DEVICE_UPDATE, codes.DEVICE_DELETE),
    "workload_identity": (
        codes.WORKLOAD_IDENTITY_CREATE,
        codes.WORKLOAD_IDENTITY_UPDATE,
        codes.WORKLOAD_IDENTITY_DELETE,
    ),
    "workload_identity_x509_revocation": (
        codes.WORKLOAD_REVOCATION_CREATE,
        codes.WORKLOAD_REVOCATION_UPDATE,
        codes.WORKLOAD_REVOCATION_DELETE,
    ),
    "workload_identity_x509_issuer_override": (
        codes.WORKLOAD_OVERRIDE_CREATE,
        codes.WORKLOAD_OVERRIDE_CREATE,
        codes.WORKLOAD_OVERRIDE_DELETE,
    ),
    "spiffe_federation": (
        codes.SPIFFE_FEDERATION_CREATE,
        codes.SPIFFE_FEDERATION_CREATE,
        codes.SPIFFE_FEDERATION_DELETE,
    ),
    "autoupdate_config": (
        codes.AUTOUPDATE_CONFIG_CREATE,
        codes.AUTOUPDATE_CONFIG_UPDATE,
        codes.AUTOUPDATE_CONFIG_DELETE,
    ),
    "autoupdate_version": (
        codes.AUTOUPDATE_VERSION_CREATE,
        codes.AUTOUPDATE_VERSION_UPDATE,
        codes.AUTOUPDATE_VERSION_DELETE,
    ),
    "vnet_config": (codes.VNET_CREATE, codes.VNET_UPDATE, codes.VNET_DELETE),
    "access_graph_settings": (
        codes.ACCESS_GRAPH_UPDATE,
        codes.ACCESS_GRAPH_UPDATE,
        codes.ACCESS_GRAPH_UPDATE,
    ),
    "cluster_maintenance_config": (codes.UPGRADE_WINDOW_UPDATE, codes.UPGRADE_WINDOW_UPDATE, None),
}
"""Per kind: created, updated, deleted; None where the field has no event."""


def change_events(
    journal: Journal, actor: str, before: Resource | None, after: Resource | None
) -> list[Event]:
    """The event of a change, if that kind of change has one."""
    resource = after or before
    assert resource is not None
    kinds = _KINDS.get(resource.kind)
    if kinds is None:
        return []
    kind = kinds[2] if after is None else kinds[0] if before is None else kinds[1]
    if kind is None:
        return []
    fields: dict[str, FieldValue] = {"name": resource.name, "user": actor, "updated_by": actor}
    if resource.metadata.expires is not None:
        fields["expires"] = rfc3339(resource.metadata.expires.timestamp())
    if isinstance(resource, User):
        fields |= {"roles": list(resource.spec.roles), "connector": "local"}
    elif isinstance(resource, Token):
        fields |= {
            "name": shown_name(resource),
            "roles": list(resource.spec.roles),
            "join_method": resource.spec.join_method,
        }
    elif isinstance(resource, AccessList):
        fields["access_list_title"] = resource.spec.title
    elif isinstance(resource, AccessListMember):
        fields |= {"access_list_name": resource.spec.access_list, "members": [resource.name]}
    elif isinstance(resource, App):
        fields |= {"app_uri": resource.spec.uri, "app_labels": dict(resource.metadata.labels)}
    elif isinstance(resource, Database):
        fields |= {
            "db_protocol": resource.spec.protocol,
            "db_uri": resource.spec.uri,
            "db_labels": dict(resource.metadata.labels),
        }
    elif isinstance(resource, KubeCluster):
        fields["kube_labels"] = dict(resource.metadata.labels)
    elif isinstance(resource, Lock):
        target = resource.spec.target
        fields |= {
            "target": {name: str(getattr(target, name)) for name in set_fields(target)},
            "message": resource.spec.message or None,
        }
    fields["changes"] = changes_of(before, after)
    return [journal.event(kind, **fields)]
