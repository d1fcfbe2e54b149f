"""Traits as flags: `--logins=root,ubuntu` on `users add`, `--set-logins=` on `users update`."""

from __future__ import annotations

from pkgs.clients.tctl.flags import commas
from pkgs.common.output.argv import Flag, Parsed

TRAITS = {
    "logins": "logins",
    "windows-logins": "windows_logins",
    "kubernetes-users": "kubernetes_users",
    "kubernetes-groups": "kubernetes_groups",
    "db-users": "db_users",
    "db-names": "db_names",
    "db-roles": "db_roles",
    "aws-role-arns": "aws_role_arns",
    "azure-identities": "azure_identities",
    "gcp-service-accounts": "gcp_service_accounts",
    "host-user-uid": "host_user_uid",
    "host-user-gid": "host_user_gid",
    "mcp-tools": "mcp_tools",
}
"""Flag to trait."""


def trait_flags(prefix: str, traits: dict[str, str]) -> tuple[Flag, ...]:
    """One flag for each trait."""
    verb = "Replace the trait" if prefix else "Trait"
    return tuple(
        Flag(prefix + flag, f"{verb} {trait}, comma separated", metavar="LIST")
        for flag, trait in traits.items()
    )


def traits_of(args: Parsed, prefix: str, traits: dict[str, str]) -> dict[str, list[str]]:
    """The traits that were given; `--set-logins=` gives an empty list."""
    return {trait: commas(args.text(prefix + f)) for f, trait in traits.items() if prefix + f in args.given}
