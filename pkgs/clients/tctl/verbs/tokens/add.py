"""`tctl tokens add`."""

from __future__ import annotations

import sys

from pkgs.clients.tctl.connect import connect
from pkgs.clients.tctl.flags import commas, duration
from pkgs.clients.tctl.inventory import join_text
from pkgs.clients.tsh.servers.nodes import parse_labels
from pkgs.common.api.resources import CreateToken
from pkgs.common.errors import InputError
from pkgs.common.output import formats, times
from pkgs.common.output.argv import Flag, Parsed, Spec
from pkgs.common.output.sanitize import inert
from pkgs.common.pki.identity import SystemRole
from pkgs.common.resources.kinds import Token

SPEC = Spec(
    "Make a token with which new hosts join, and print the command to run there.",
    Flag("type", "What may join with it, comma separated: node, proxy, ... (required)", metavar="TYPES"),
    Flag("value", "The token itself; random without it", metavar="TOKEN"),
    Flag("ttl", "How long the token is valid", default="30m", metavar="DURATION"),
    Flag("labels", "Labels of the token, k=v,...", metavar="LABELS"),
    Flag("format", "text prints only the token; json and yaml an object", choices=("text", "json", "yaml"),
         metavar="FORMAT"),
)  # fmt: skip
ROLES = {role.value.lower(): role.value for role in SystemRole} | {"ssh": "Node"}


def run(args: Parsed) -> int:
    """Create and print."""
    if not args.text("type"):
        raise InputError("--type is required", hint="for example --type=node")
    return add(args, roles_of(args.text("type")), args.text("value"), args.text("labels"))


def add(args: Parsed, roles: list[str], value: str, labels: str) -> int:
    """Make a token for these system roles and show it."""
    ttl_s = duration(args, "ttl")
    request = CreateToken(roles=roles, ttl_s=ttl_s, value=value, labels=parse_labels(labels))
    with connect(args) as client:
        token = client.call(request).resource
        assert isinstance(token, Token)
        text = "" if args.text("format") else join_text(client, inert(token.name), roles, ttl_s)
    if args.text("format") == "text":
        text = inert(token.name) + "\n"
    elif args.text("format"):
        expires = token.metadata.expires
        formats.write(
            {
                "token": token.name,
                "roles": token.spec.roles,
                "expires": times.rfc3339(expires.timestamp()) if expires else None,
            },
            args.text("format"),
        )
        return 0
    sys.stdout.write(text)
    return 0


def roles_of(text: str) -> list[str]:
    """System roles of a comma list of types."""
    roles = []
    for item in commas(text):
        role = ROLES.get(item.lower())
        if role is None:
            raise InputError(f"{item[:40]!r} is no type of host", hint=f"known: {', '.join(sorted(ROLES))}")
        roles.append(role)
    return list(dict.fromkeys(roles))
