"""What a resource's fields may hold, beyond their types: names, durations, labels, references.

The languages inside roles (templates, selectors, conditions) are checked where they live, in the access
room, whose `validate` calls this one first.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from pkgs.common.errors import InputError
from pkgs.common.resources import kinds, registry, versions
from pkgs.common.resources.codec import to_json
from pkgs.common.resources.kinds import CertAuthority, ClusterName, Node, Proxy, Resource, User
from pkgs.common.resources.limits import (
    MAX_DESCRIPTION,
    MAX_LABEL_LENGTH,
    MAX_LABELS,
    MAX_NAME_LENGTH,
    MAX_RESOURCE_BYTES,
)
from pkgs.common.resources.metadata import Base
from pkgs.common.resources.names import (
    REMOTE_USER_PREFIX,
    RESOURCE_NAME,
    SYSTEM_ROLES,
    valid_cluster_name,
    valid_host_id,
    valid_user_name,
)
from pkgs.common.resources.registry import SINGLETONS
from pkgs.common.resources.role import Role
from pkgs.common.resources.secrets import shown_name
from pkgs.common.resources.validate import clusters, governance, joining, roles, targets, words
from pkgs.common.resources.validate.words import short

_WITH_SUB_KIND = (
    CertAuthority,
    Node,
    kinds.AccessListMember,
    kinds.Integration,
    kinds.ServerInfo,
    kinds.BotInstance,
    kinds.DatabaseServer,
)
_CHECKS: dict[type[Base], Callable[[Any, str], None]] = {
    Role: roles.check_role,
    kinds.Token: joining.check_token,
    kinds.Bot: joining.check_bot,
    kinds.Device: joining.check_device,
    kinds.WorkloadIdentity: joining.check_workload_identity,
    kinds.WorkloadIdentityRevocation: joining.check_revocation,
    kinds.WorkloadIdentityIssuerOverride: joining.check_issuer_override,
    kinds.SpiffeFederation: joining.check_federation,
    kinds.App: targets.check_app,
    kinds.Database: targets.check_database,
    kinds.KubeCluster: targets.check_kube,
    kinds.WindowsDesktop: targets.check_desktop,
    kinds.DynamicWindowsDesktop: targets.check_desktop,
    kinds.DatabaseServer: targets.check_database_server,
    kinds.HealthCheckConfig: targets.check_health,
    kinds.Lock: governance.check_lock,
    kinds.AccessRequest: governance.check_request,
    kinds.AccessList: governance.check_list,
    kinds.AccessListMember: governance.check_member,
    kinds.LoginRule: governance.check_login_rule,
    kinds.AccessMonitoringRule: governance.check_monitoring,
    kinds.AuthPreference: clusters.check_preference,
    kinds.NetworkingConfig: clusters.check_networking,
    kinds.RecordingConfig: clusters.check_recording,
    kinds.UiConfig: clusters.check_ui,
    kinds.VnetConfig: clusters.check_vnet,
    kinds.TrustedCluster: clusters.check_trusted,
    kinds.RemoteCluster: clusters.check_remote,
    kinds.Github: clusters.check_github,
    kinds.Oidc: clusters.check_oidc,
    kinds.Saml: clusters.check_saml,
    kinds.DiscoveryConfig: clusters.check_discovery,
    kinds.Integration: clusters.check_integration,
    kinds.DbObjectImportRule: clusters.check_import_rule,
    kinds.CrownJewel: clusters.check_jewel,
    kinds.Installer: clusters.check_installer,
    kinds.StaticHostUser: clusters.check_host_user,
    kinds.MaintenanceConfig: clusters.check_maintenance,
    kinds.AutoupdateConfig: clusters.check_autoupdate_config,
    kinds.AutoupdateVersion: clusters.check_autoupdate_version,
}
"""By type; kinds that are not here hold nothing that their types do not say."""


def check_fields(resource: Resource) -> None:
    """Raises InputError naming kind, name and field of the first problem."""
    where = f"{resource.kind}/{short(shown_name(resource))}"
    _check_metadata(resource, where)
    if resource.sub_kind and not isinstance(resource, _WITH_SUB_KIND):
        # It would be stored beside the resource of the same name and stand in for it.
        raise InputError(f"{where}: sub_kind: a {resource.kind} has none", hint="leave it out")
    expected = SINGLETONS.get(resource.kind)
    if expected is not None and resource.name != expected:
        raise InputError(f"{where}: metadata.name: there is only one, named {expected}")
    allowed = versions.accepted(resource.kind, registry.default_version(resource.kind))
    if resource.version not in allowed:
        found = short(resource.version)
        raise InputError(f"{where}: version: found {found!r}, expected one of {', '.join(allowed)}")
    check = _CHECKS.get(type(resource))
    if check is not None:
        check(resource, where)
    elif isinstance(resource, User):
        _check_user(resource, where)
    elif isinstance(resource, ClusterName):
        _check_cluster(resource.spec.cluster_name, where)
    elif isinstance(resource, CertAuthority):
        _check_authority(resource, where)
    elif isinstance(resource, Node | Proxy):
        if not valid_host_id(resource.name):
            raise InputError(f"{where}: metadata.name: expected a host id (a UUID)")
        if not resource.spec.hostname:
            raise InputError(f"{where}: spec.hostname: missing")
        if isinstance(resource, Node):
            targets.check_node(resource, where)
    size = len(to_json(resource, with_secrets=True))
    if size > MAX_RESOURCE_BYTES:
        raise InputError(f"{where}: {size:,} bytes, at most {MAX_RESOURCE_BYTES:,} bytes")


def _check_metadata(resource: Resource, where: str) -> None:
    name = resource.name
    if not name or len(name) > MAX_NAME_LENGTH or not RESOURCE_NAME.fullmatch(name) or name in {".", ".."}:
        raise InputError(
            f"{where}: metadata.name: not a valid name",
            hint=f"1 to {MAX_NAME_LENGTH} printable characters without slashes",
        )
    labels = resource.metadata.labels
    if len(labels) > MAX_LABELS:
        raise InputError(f"{where}: metadata.labels: {len(labels):,} labels, at most {MAX_LABELS:,}")
    described = len(resource.metadata.description)
    if described > MAX_DESCRIPTION:
        raise InputError(
            f"{where}: metadata.description: {described:,} characters, at most {MAX_DESCRIPTION:,}"
        )
    for key, value in labels.items():
        if not words.valid_label_key(key) or len(key) > MAX_LABEL_LENGTH:
            raise InputError(
                f"{where}: metadata.labels: {short(key)!r} is not a valid label name",
                hint="letters, digits and / . : _ * + -",
            )
        if len(value) > MAX_LABEL_LENGTH:
            raise InputError(f"{where}: metadata.labels.{key}: longer than {MAX_LABEL_LENGTH} characters")
    expires = resource.metadata.expires
    if expires is not None and expires.tzinfo is None:
        raise InputError(f"{where}: metadata.expires: expected a time with its zone")


def _check_user(user: User, where: str) -> None:
    if not valid_user_name(user.name):
        raise InputError(
            f"{where}: metadata.name: not a valid user name",
            hint="up to 64 letters, digits, '.', '_', '-', '@', '+'",
        )
    if user.name.startswith(REMOTE_USER_PREFIX):  # attack A44
        raise InputError(f"{where}: metadata.name: {REMOTE_USER_PREFIX}... is for users of other clusters")
    if not user.spec.roles:
        raise InputError(f"{where}: spec.roles: a user needs at least one role")
    lowered = {role.lower() for role in SYSTEM_ROLES}
    for role in user.spec.roles:
        if not role or role.lower() in lowered:
            raise InputError(f"{where}: spec.roles: {short(role)!r} is reserved for the system")


def _check_cluster(name: str, where: str) -> None:
    if not valid_cluster_name(name):
        raise InputError(f"{where}: spec.cluster_name: not a DNS name")


def _check_authority(ca: CertAuthority, where: str) -> None:
    _check_cluster(ca.spec.cluster_name, where)
    if ca.sub_kind != ca.spec.type:
        raise InputError(f"{where}: sub_kind: expected the authority's type, {ca.spec.type}")
    if ca.name != ca.spec.cluster_name:
        raise InputError(f"{where}: metadata.name: expected the cluster's name")
