"""The full check of a resource before it is stored: fields, and the languages inside roles."""

from __future__ import annotations

from pkgs.common.access.contexts.participants import parse_filter
from pkgs.common.access.matchers import compile_matchers
from pkgs.common.access.protocols import kube
from pkgs.common.access.rolemap import check_mappings
from pkgs.common.access.roleset import PROTOCOLS, compile_roles
from pkgs.common.access.traits import parse_template
from pkgs.common.errors import InputError
from pkgs.common.resources.kinds import Resource, TrustedCluster
from pkgs.common.resources.role import Conditions, Role
from pkgs.common.resources.validate import check_fields

_TEMPLATED = (
    "logins",
    "windows_desktop_logins",
    "linux_desktop_logins",
    "aws_role_arns",
    "azure_identities",
    "gcp_service_accounts",
    "kubernetes_groups",
    "kubernetes_users",
    "db_names",
    "db_users",
    "db_roles",
    "host_groups",
    "host_sudoers",
    "desktop_groups",
)


def validate(resource: Resource) -> None:
    """Raises InputError for anything that would be wrong, or that is not understood and so could not be
    enforced. Whatever passes can be decided upon."""
    check_fields(resource)
    if isinstance(resource, Role):
        _validate_role(resource)
    elif isinstance(resource, TrustedCluster):
        check_mappings(resource.spec.role_map, f"trusted_cluster/{resource.name}: spec.role_map")


def _validate_role(role: Role) -> None:
    where = f"role/{role.name}"
    try:
        for conditions in (role.spec.allow, role.spec.deny):
            _check_templates(conditions)
        compiled = compile_roles([role], {})
        for protocol in dict.fromkeys(PROTOCOLS.values()):
            compiled.grants(protocol)
        for side, conditions in (("allow", role.spec.allow), ("deny", role.spec.deny)):
            kube.check_patterns(conditions.kubernetes_resources, f"{side}.kubernetes_resources")
            _check_matchers(conditions, side)
            _check_filters(conditions, side)
        for extension in role.spec.options.cert_extensions:
            parse_template(extension.value)
    except InputError as error:
        message = error.message.removeprefix(f"role {role.name}: ")
        raise InputError(f"{where}: {message}", hint=error.hint) from None


def _check_templates(conditions: Conditions) -> None:
    for field in _TEMPLATED:
        for entry in getattr(conditions, field):
            parse_template(entry)
    for field in conditions.__struct_fields__:
        if field.endswith("_labels"):
            for key, values in getattr(conditions, field).items():
                for text in (key, *([values] if isinstance(values, str) else values)):
                    parse_template(text)


def _check_matchers(conditions: Conditions, side: str) -> None:
    lists: list[tuple[str, list[str]]] = []
    if conditions.request is not None:
        lists.append(("request.roles", conditions.request.roles))
    if conditions.review_requests is not None:
        lists.append(("review_requests.roles", conditions.review_requests.roles))
    lists += [
        (f"join_sessions[{index}].roles", policy.roles)
        for index, policy in enumerate(conditions.join_sessions)
    ]
    for field, entries in lists:
        _compiles(entries, f"{side}.{field}")
    if conditions.impersonate is not None:
        _compiles(conditions.impersonate.users, f"{side}.impersonate.users", templates=True)
        _compiles(conditions.impersonate.roles, f"{side}.impersonate.roles", templates=True)


def _compiles(entries: list[str], where: str, *, templates: bool = False) -> None:
    try:
        compile_matchers(entries, {} if templates else None)
    except InputError as error:
        raise InputError(f"{where}: {error.message}", hint=error.hint) from None


def _check_filters(conditions: Conditions, side: str) -> None:
    for index, policy in enumerate(conditions.require_session_join):
        try:
            if policy.filter.strip():
                parse_filter(policy.filter)
        except InputError as error:
            raise InputError(f"{side}.require_session_join[{index}].filter: {error.message}") from None
