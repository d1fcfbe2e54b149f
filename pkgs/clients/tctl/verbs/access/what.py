"""`tctl access what`."""

from __future__ import annotations

import sys

from pkgs.clients.tctl.connect import connect
from pkgs.clients.tctl.flags import FORMAT, commas
from pkgs.clients.tctl.verbs.access.words import CIRCUMSTANCES, DEADLINE_S, ROLES, USER, somebody
from pkgs.common.access.explaining.actions import KINDS
from pkgs.common.api.access import Grant, WhatCan
from pkgs.common.errors import InputError
from pkgs.common.output import formats
from pkgs.common.output.argv import Flag, Parsed, Spec
from pkgs.common.output.table import render

SPEC = Spec(
    "List what a user may reach, as whom, and by which roles. '*' stands for any that is not named.",
    USER,
    ROLES,
    *CIRCUMSTANCES,
    Flag("kind", f"Only these, comma separated: {', '.join(KINDS)}", metavar="KINDS"),
    FORMAT,
)


def run(args: Parsed) -> int:
    """Ask and print."""
    actions = commas(args.text("kind"))
    unknown = [word for word in actions if word not in KINDS]
    if unknown:
        raise InputError(f"--kind: {unknown[0][:40]!r} is not known", hint=f"one of {', '.join(KINDS)}")
    request = WhatCan(who=somebody(args), actions=actions)
    grants: list[Grant] = []
    with connect(args) as client:
        for part in client.stream(request, deadline_s=DEADLINE_S):
            grants += part.grants
    if args.text("format") != "text":
        formats.write_list(grants, args.text("format"))
        return 0
    rows = [
        (
            grant.action,
            grant.resource,
            ",".join(grant.principals),
            grant.resource_id,
            "; ".join(dict.fromkeys(grant.reasons)),
        )
        for grant in grants
    ]
    sys.stdout.write(render(("Kind", "Resource", "As", "ID", "By"), rows))
    return 0
