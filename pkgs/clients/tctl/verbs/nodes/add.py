"""`tctl nodes add`."""

from __future__ import annotations

from pkgs.clients.tctl.verbs.tokens.add import add, roles_of
from pkgs.common.output.argv import Flag, Parsed, Spec

SPEC = Spec(
    "Make a token with which a node joins, and print the command to run there.",
    Flag("roles", "What may join with it, comma separated", default="node", metavar="TYPES"),
    Flag("token", "The token itself; random without it", metavar="TOKEN"),
    Flag("ttl", "How long the token is valid", default="30m", metavar="DURATION"),
    Flag("format", "text prints only the token; json and yaml an object", choices=("text", "json", "yaml"),
         metavar="FORMAT"),
)  # fmt: skip


def run(args: Parsed) -> int:
    """Create and print."""
    return add(args, roles_of(args.text("roles")), args.text("token"), "")
