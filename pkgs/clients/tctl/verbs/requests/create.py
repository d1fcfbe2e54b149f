"""`tctl requests create`."""

from __future__ import annotations

import sys

from pkgs.clients.tctl.connect import connect
from pkgs.clients.tctl.flags import commas
from pkgs.clients.tsh.requests import flags
from pkgs.common.api.requests import CreateAccessRequest
from pkgs.common.output import formats
from pkgs.common.output.argv import Flag, Parsed, Spec
from pkgs.common.output.sanitize import inert
from pkgs.common.resources.codec import to_builtins

SPEC = Spec(
    "Make an access request for a user, within what the user may request. Prints its id.",
    Flag("roles", "Roles to ask for: role,role; * for all that the user can request", default="*",
         metavar="ROLES"),
    Flag("resource", "Resource id to ask for (repeatable)", is_list=True, metavar="ID"),
    Flag("reason", "Why it is needed", metavar="TEXT"),
    Flag("dry-run", "Only print, as JSON, what the request would be", is_bool=True),
    usage="USER",
    least=1,
    most=1,
)  # fmt: skip


def run(args: Parsed) -> int:
    """Create; print the id."""
    resources = args.texts("resource")
    # For resources the roles are found by what they open, unless they are named.
    roles = commas(args.text("roles")) if not resources or "roles" in args.given else []
    request = CreateAccessRequest(
        user=args.words[0],
        roles=roles,
        resource_ids=resources,
        reason=flags.reason(args, "reason"),
        dry_run=args.on("dry-run"),
    )
    with connect(args) as client:
        made = client.call(request).request
    if args.on("dry-run"):
        formats.write(to_builtins(made), "json")
    else:
        sys.stdout.write(inert(made.name) + "\n")
    return 0
