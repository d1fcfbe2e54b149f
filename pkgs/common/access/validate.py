"""The full check of a resource before it is stored: fields, and the languages inside roles."""

from __future__ import annotations

from pkgs.common.access.impersonation import check_impersonation
from pkgs.common.access.roleset import compile_role
from pkgs.common.access.traits import parse_template
from pkgs.common.errors import InputError
from pkgs.common.resources.kinds import Resource
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


def _validate_role(role: Role) -> None:
    where = f"role/{role.name}"
    try:
        for conditions in (role.spec.allow, role.spec.deny):
            _check_templates(conditions)
        compile_role(role, {})
        check_impersonation(role)
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
