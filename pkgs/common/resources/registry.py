"""Kinds by name: aliases, types, singletons, and references like `role/access`."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from typing import NamedTuple, get_args

import msgspec

from pkgs.common.errors import InputError
from pkgs.common.resources import kinds
from pkgs.common.resources.metadata import Base

TYPES: dict[str, type[Base]] = {str(cls.__struct_config__.tag): cls for cls in get_args(kinds.Resource)}
"""Canonical kind to its type."""

SINGLETONS: dict[str, str] = {
    "cluster_name": "cluster-name",
    "cluster_auth_preference": "cluster-auth-preference",
    "cluster_networking_config": "cluster-networking-config",
    "session_recording_config": "session-recording-config",
    "recording_encryption": "recording-encryption",
    "ui_config": "ui-config",
    "cluster_maintenance_config": "cluster-maintenance-config",
    "vnet_config": "vnet-config",
    "access_graph_settings": "access-graph-settings",
    "autoupdate_config": "autoupdate-config",
    "autoupdate_version": "autoupdate-version",
    "autoupdate_agent_rollout": "autoupdate-agent-rollout",
}
"""Kinds of which a cluster has at most one, and its name."""

DEFAULTED = ("cluster_auth_preference", "cluster_networking_config", "session_recording_config")
"""Singletons that always exist: removing one brings its defaults back."""

OWN = frozenset({"cluster_name", "cert_authority"})
"""What a cluster is: made at its first start, never restored into another one by hand."""
PRESENCE = frozenset({"node", "proxy", "auth_server", "bot_instance", "db_server", "db_service"})
"""What heartbeats and joins make; only servers without an agent are made by people."""

IN_ORDER: tuple[str, ...] = (
    *("cluster_name", "cert_authority", "cluster_auth_preference", "cluster_networking_config"),
    *("session_recording_config", "recording_encryption"),
    *("ui_config", "cluster_maintenance_config", "vnet_config"),
    *("access_graph_settings", "autoupdate_config", "autoupdate_version", "autoupdate_agent_rollout"),
    *("installer", "integration", "role", "trusted_cluster", "remote_cluster", "github", "oidc", "saml"),
    *("login_rule", "user", "bot", "token", "device", "access_list", "access_list_member"),
    *("access_request", "access_monitoring_rule", "workload_identity"),
    *("workload_identity_x509_revocation", "workload_identity_x509_issuer_override", "spiffe_federation"),
    *("app", "db", "kube_cluster", "windows_desktop", "dynamic_windows_desktop", "db_object_import_rule"),
    *("health_check_config", "discovery_config", "server_info", "static_host_user", "crown_jewel"),
    *("auth_server", "proxy", "node", "db_server", "db_service", "bot_instance", "lock"),
)
"""Every kind, after those it refers to: a user after roles, a lock last so that it locks nobody's restore."""
GROUPS: dict[str, tuple[str, ...]] = {
    "connectors": ("github", "oidc", "saml"),
    "connector": ("github", "oidc", "saml"),
}
"""Names that stand for several kinds."""

NOT_KEPT: dict[str, str] = {
    **dict.fromkeys(
        ("app_server", "kube_server", "windows_desktop_service", "instance"),
        "presence of a service that does not exist yet",
    ),
    "db_object": "objects inside databases are read whenever permissions on them are granted",
    "user_task": "made by discovery, which does not exist yet",
    "semaphore": "internal to a cluster that limits connections; this one counts in memory",
    "reverse_tunnel": "a relic: tunnels are made by joining",
    "security_report": "made by the reports of the audit log, which do not exist",
    "audit_query": "a stored query over an audit store that we do not use",
    "user_group": "imported from an identity provider, which does not exist yet",
    "saml_idp_service_provider": "there is no identity provider for others",
    "network_restrictions": "its fields are not known for certain",
    "external_audit_storage": "its fields are not known for certain",
    "plugin": "holds credentials of other services; none is connected",
    "scoped_role": "its fields are not known for certain",
    "scoped_role_assignment": "its fields are not known for certain",
    "scoped_token": "its fields are not known for certain",
}
"""Kinds of the field that are no resources here, and why."""

ALIASES: dict[str, str] = {
    "roles": "role",
    "users": "user",
    "nodes": "node",
    "proxies": "proxy",
    "auth_servers": "auth_server",
    "auth": "auth_server",
    "tokens": "token",
    "cert_authorities": "cert_authority",
    "cas": "cert_authority",
    "tc": "trusted_cluster",
    "cluster": "trusted_cluster",
    "clusters": "trusted_cluster",
    "remote_clusters": "remote_cluster",
    "rc": "remote_cluster",
    "rcs": "remote_cluster",
    "cap": "cluster_auth_preference",
    "cluster_auth_preferences": "cluster_auth_preference",
    "cluster_authentication_preferences": "cluster_auth_preference",
    "networking_config": "cluster_networking_config",
    "networking": "cluster_networking_config",
    "net_config": "cluster_networking_config",
    "netconfig": "cluster_networking_config",
    "recording_config": "session_recording_config",
    "session_recording": "session_recording_config",
    "rec_config": "session_recording_config",
    "recconfig": "session_recording_config",
    "cmc": "cluster_maintenance_config",
    "ui": "ui_config",
    "kube_clusters": "kube_cluster",
    "apps": "app",
    "locks": "lock",
    "win_desktop": "windows_desktop",
    "login_rules": "login_rule",
    "devices": "device",
    "access_lists": "access_list",
    "accesslist": "access_list",
    "accesslists": "access_list",
    "access_requests": "access_request",
    "accessrequest": "access_request",
    "accessrequests": "access_request",
    "discovery_configs": "discovery_config",
    "discoveryconfig": "discovery_config",
    "discoveryconfigs": "discovery_config",
    "integrations": "integration",
    "bots": "bot",
    "db_object_import_rules": "db_object_import_rule",
    "database_object_import_rule": "db_object_import_rule",
    "static_host_users": "static_host_user",
    "host_user": "static_host_user",
    "host_users": "static_host_user",
    "workload_identities": "workload_identity",
    "workloadidentity": "workload_identity",
    "workloadidentities": "workload_identity",
    "spiffe_federations": "spiffe_federation",
    "workload_identity_x509_revocations": "workload_identity_x509_revocation",
    "crown_jewels": "crown_jewel",
    "ags": "access_graph_settings",
    "semaphores": "semaphore",
    "sem": "semaphore",
    "sems": "semaphore",
    "reverse_tunnels": "reverse_tunnel",
    "rts": "reverse_tunnel",
    "kube_servers": "kube_server",
    "app_servers": "app_server",
    "db_servers": "db_server",
    "db_services": "db_service",
    "windows_service": "windows_desktop_service",
    "win_desktop_service": "windows_desktop_service",
    "win_service": "windows_desktop_service",
    "saml_idp_service_providers": "saml_idp_service_provider",
    "saml_sp": "saml_idp_service_provider",
    "saml_sps": "saml_idp_service_provider",
    "user_groups": "user_group",
    "usergroup": "user_group",
    "usergroups": "user_group",
    "bot_instances": "bot_instance",
    "database_object": "db_object",
    "user_tasks": "user_task",
    "plugins": "plugin",
}
ALL = "all"


class Ref(NamedTuple):
    """`kind`, `kind/name` or `kind/subkind/name`; an empty part was not given."""

    kind: str
    sub_kind: str = ""
    name: str = ""


def canonical_kind(kind: str) -> str:
    """The canonical name of a kind or alias, in any letter case; raises InputError with a suggestion."""
    lowered = kind.strip().lower()
    found = ALIASES.get(lowered, lowered)
    if found in TYPES:
        return found
    if found in NOT_KEPT:
        raise InputError(f"resources of type {found!r} are not kept: {NOT_KEPT[found]}")
    close = difflib.get_close_matches(lowered, [*TYPES, *ALIASES, *GROUPS], n=1)
    hint = f"did you mean {close[0]}?" if close else f"known kinds: {', '.join(sorted(TYPES))}"
    raise InputError(f"unknown kind {kind!r}", hint=hint)


def type_of(kind: str) -> type[Base]:
    """The type of a kind or alias."""
    return TYPES[canonical_kind(kind)]


def parse_ref(text: str) -> Ref:
    """A reference; parts may be divided by slash, space or tab."""
    parts = [part for part in text.replace(" ", "/").replace("\t", "/").split("/") if part]
    if not parts or len(parts) > 3:
        raise InputError(f"{text!r} is not a reference to a resource", hint="write kind, kind/name or `all`")
    kind = canonical_kind(parts[0])
    if len(parts) == 1:
        return Ref(kind)
    return Ref(kind, "", parts[1]) if len(parts) == 2 else Ref(kind, parts[1], parts[2])


def parse_refs(text: str) -> list[Ref]:
    """References divided by commas; a comma inside a name is written `\\,`; `all` is every kind."""
    found: list[Ref] = []
    for item in _split(text):
        if item.strip().lower() == ALL:
            found += [Ref(kind) for kind in IN_ORDER]
        elif item.strip().lower() in GROUPS:
            found += [Ref(kind) for kind in GROUPS[item.strip().lower()]]
        else:
            found.append(parse_ref(item))
    return list(dict.fromkeys(found))


def _split(text: str) -> Iterable[str]:
    current: list[str] = []
    chars = iter(text)
    for char in chars:
        if char == "\\":
            current.append(next(chars, ""))
        elif char == ",":
            yield "".join(current)
            current = []
        else:
            current.append(char)
    yield "".join(current)


def default_version(kind: str) -> str:
    """The version of a document that names none."""
    found = next(field for field in msgspec.structs.fields(TYPES[kind]) if field.name == "version")
    return str(found.default)
