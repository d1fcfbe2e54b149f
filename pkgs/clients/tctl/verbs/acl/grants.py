"""The flags of `acl create` and `acl update`, and what they make: a list, and the roles that are made for it.

Resource flags (`--node-labels`, `--logins`, ...) describe one role, `acl-access-<list>`. With standing access
the list grants it; with request-based access the list grants `acl-request-<list>`, which lets its members ask
for it.
"""

from __future__ import annotations

from typing import Any

import msgspec

from pkgs.clients.tctl.flags import commas
from pkgs.clients.tsh.servers.nodes import parse_labels
from pkgs.common.errors import InputError
from pkgs.common.output.argv import Flag, Parsed
from pkgs.common.resources.kinds import AccessList, Resource
from pkgs.common.resources.kinds.requests import (
    AccessListSpec,
    Grants,
    ListOwner,
    Requires,
)
from pkgs.common.resources.metadata import Metadata
from pkgs.common.resources.role import Conditions, RequestConditions, Role, RoleSpec

FOR_LIST = "teleport.internal/access-list"
"""On the roles that were made for a list: its name."""
_USER: Any = "MEMBERSHIP_KIND_USER"
_LIST: Any = "MEMBERSHIP_KIND_LIST"
_LABELS = {
    "node-labels": "node_labels",
    "app-labels": "app_labels",
    "db-labels": "db_labels",
    "kubernetes-labels": "kubernetes_labels",
    "windows-desktop-labels": "windows_desktop_labels",
}
_PRINCIPALS = {
    "logins": "logins",
    "db-users": "db_users",
    "db-names": "db_names",
    "db-roles": "db_roles",
    "kubernetes-users": "kubernetes_users",
    "kubernetes-groups": "kubernetes_groups",
    "windows-desktop-logins": "windows_desktop_logins",
    "aws-role-arns": "aws_role_arns",
    "azure-identities": "azure_identities",
    "gcp-service-accounts": "gcp_service_accounts",
}
"""Flag to field of a role."""
_HELD = {
    "member-grant": "grants",
    "owner-grant": "owner_grants",
    "member-required": "membership_requires",
    "owner-required": "ownership_requires",
}
"""Flag, with `-roles` or `-traits`, to field of a list."""
_ABOUT = {
    "member-grant": "that the members receive",
    "owner-grant": "that the owners receive",
    "member-required": "without which a membership has no effect",
    "owner-required": "without which an ownership has no effect",
}

FLAGS = (
    Flag("title", "What people call the list", metavar="TEXT"),
    Flag("description", "What it is for", metavar="TEXT"),
    Flag("owners", "Users who own the list, comma separated", metavar="USERS"),
    Flag("owner-access-lists", "Lists whose members own it, comma separated", metavar="LISTS"),
    Flag("audit-frequency", "Months between reviews, default 6", choices=("1", "3", "6", "12"), metavar="N"),
    Flag("audit-day", "Day of the month on which they are due, default 1", choices=("1", "15", "31", "last"),
         metavar="DAY"),
    *(Flag(f"{name}-roles", f"Roles {_ABOUT[name]}, comma separated", metavar="ROLES") for name in _HELD),
    *(Flag(f"{name}-traits", f"Traits {_ABOUT[name]}, k=v,k=v,...", metavar="TRAITS") for name in _HELD),
    Flag("access-type", "Whether the resources of the flags below are had or may be requested",
         default="standing", choices=("standing", "request-based"), metavar="TYPE"),
    *(Flag(name, f"Resources with these labels ({name.removesuffix('-labels')}), k=v,...", metavar="LABELS")
      for name in _LABELS),
    *(Flag(name, f"Access as these {name.replace('-', ' ')}, comma separated", metavar="LIST")
      for name in _PRINCIPALS),
)  # fmt: skip


def traits_of(text: str, flag: str) -> dict[str, list[str]]:
    """`team=red,team=blue,office=here`."""
    found: dict[str, list[str]] = {}
    for item in commas(text):
        name, given, value = item.partition("=")
        if not given or not name or not value:
            raise InputError(f"--{flag}: {item[:60]!r} is no trait", hint="write name=value,name=value")
        found.setdefault(name, []).append(value)
    return found


def _held(args: Parsed, name: str, before: Grants | Requires) -> dict[str, Any]:
    changes: dict[str, Any] = {}
    if f"{name}-roles" in args.given:
        changes["roles"] = commas(args.text(f"{name}-roles"))
    if f"{name}-traits" in args.given:
        changes["traits"] = traits_of(args.text(f"{name}-traits"), f"{name}-traits")
    return {_HELD[name]: msgspec.structs.replace(before, **changes)} if changes else {}


def applied(args: Parsed, before: AccessList) -> AccessList:
    """The list with what the flags say; each that was given replaces."""
    spec = before.spec
    changes: dict[str, Any] = {n: args.text(n) for n in ("title", "description") if n in args.given}
    kept = {
        _USER: [owner for owner in spec.owners if owner.membership_kind != _LIST],
        _LIST: [owner for owner in spec.owners if owner.membership_kind == _LIST],
    }
    for flag, kind in (("owners", _USER), ("owner-access-lists", _LIST)):
        if flag in args.given:
            kept[kind] = [ListOwner(name=name, membership_kind=kind) for name in commas(args.text(flag))]
    changes["owners"] = kept[_USER] + kept[_LIST]
    rhythm: dict[str, Any] = {
        field: args.text(flag)
        for flag, field in (("audit-frequency", "frequency"), ("audit-day", "day_of_month"))
        if flag in args.given
    }
    if rhythm:
        recurrence = msgspec.structs.replace(spec.audit.recurrence, **rhythm)
        # The Auth Service says when it is due in the new rhythm.
        changes["audit"] = msgspec.structs.replace(spec.audit, recurrence=recurrence, next_audit_date=None)
    for name, field in _HELD.items():
        changes |= _held(args, name, getattr(spec, field))
    return msgspec.structs.replace(before, spec=msgspec.structs.replace(spec, **changes))


def new_list(args: Parsed, name: str) -> AccessList:
    """A list with what the flags say, the rest by default."""
    empty = AccessListSpec(title=args.text("title"))
    return applied(args, AccessList(metadata=Metadata(name=name), spec=empty))


def access_role_name(list_name: str) -> str:
    return f"acl-access-{list_name}"


def request_role_name(list_name: str) -> str:
    return f"acl-request-{list_name}"


def describes_access(args: Parsed) -> bool:
    """Whether a resource flag was given."""
    return any(flag in args.given for flag in (*_LABELS, *_PRINCIPALS))


def roles_for(args: Parsed, list_name: str) -> list[Role]:
    """The roles that the resource flags describe; the last one is what the list grants."""
    if not describes_access(args):
        return []
    fields: dict[str, Any] = {
        field: dict(parse_labels(args.text(flag))) for flag, field in _LABELS.items() if args.text(flag)
    }
    fields |= {field: commas(args.text(flag)) for flag, field in _PRINCIPALS.items() if args.text(flag)}
    roles = [_role(access_role_name(list_name), list_name, Conditions(**fields))]
    if args.text("access-type") == "request-based":
        request = RequestConditions(search_as_roles=[access_role_name(list_name)])
        roles.append(_role(request_role_name(list_name), list_name, Conditions(request=request)))
    return roles


def _role(name: str, list_name: str, allow: Conditions) -> Role:
    description = f"Made for the access list {list_name}"
    metadata = Metadata(name=name, description=description, labels={FOR_LIST: list_name})
    return Role(metadata=metadata, spec=RoleSpec(allow=allow))


def check_ours(found: Resource, list_name: str) -> None:
    """Raises InputError for a role of that name which somebody made for themselves."""
    if found.metadata.labels.get(FOR_LIST) != list_name:
        raise InputError(
            f'role "{found.name}" was not made for access list "{list_name}"',
            hint="rename or delete it first",
        )


def granting(access_list: AccessList, roles: list[Role]) -> AccessList:
    """The list granting the last of these roles, instead of what was made for it before."""
    made = (access_role_name(access_list.name), request_role_name(access_list.name))
    held = [role for role in access_list.spec.grants.roles if role not in made]
    grants = msgspec.structs.replace(access_list.spec.grants, roles=held + [r.name for r in roles[-1:]])
    return msgspec.structs.replace(access_list, spec=msgspec.structs.replace(access_list.spec, grants=grants))
