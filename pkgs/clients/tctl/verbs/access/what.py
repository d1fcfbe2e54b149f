"""`tctl access what`."""

from __future__ import annotations

import sys

from pkgs.clients.tctl.connect import connect
from pkgs.clients.tctl.flags import FORMAT, commas
from pkgs.clients.tctl.verbs.access.words import DEADLINE_S, ROLES, USER, WITH_MFA
from pkgs.common.api.access import Grant, WhatCan
from pkgs.common.errors import InputError
from pkgs.common.output import formats
from pkgs.common.output.argv import Parsed, Spec
from pkgs.common.output.table import render

SPEC = Spec(
    "List the servers that a user may log in to, as whom, and by which roles.",
    USER,
    ROLES,
    WITH_MFA,
    FORMAT,
)


def run(args: Parsed) -> int:
    """Ask and print."""
    if not args.text("user"):
        raise InputError("--user is required", hint="for example --user=alice")
    request = WhatCan(user=args.text("user"), roles=commas(args.text("roles")), with_mfa=args.on("with-mfa"))
    grants: list[Grant] = []
    with connect(args) as client:
        for part in client.stream(request, deadline_s=DEADLINE_S):
            grants += part.grants
    if args.text("format") != "text":
        formats.write_list(grants, args.text("format"))
        return 0
    rows = [
        (grant.node, grant.node_id, ",".join(grant.logins), "; ".join(dict.fromkeys(grant.reasons)))
        for grant in grants
    ]
    sys.stdout.write(render(("Node", "Node ID", "Logins", "By"), rows))
    return 0
