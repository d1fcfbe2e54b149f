"""`tctl access who`."""

from __future__ import annotations

import sys

from pkgs.clients.tctl.connect import connect
from pkgs.clients.tctl.flags import FORMAT
from pkgs.clients.tctl.verbs.access.words import CIRCUMSTANCES, DEADLINE_S, moment, source
from pkgs.common.access.explaining.actions import MAX_WORDS, USAGE, parse_action
from pkgs.common.api.access import Grant, WhoCan
from pkgs.common.output import formats
from pkgs.common.output.argv import Parsed, Spec
from pkgs.common.output.table import render

SPEC = Spec(
    "List the users who may do something with a resource, and by which role.",
    *CIRCUMSTANCES,
    FORMAT,
    usage=" | ".join(USAGE.values()),
    least=2,
    most=MAX_WORDS,
)


def run(args: Parsed) -> int:
    """Ask and print."""
    parse_action(args.words)
    request = WhoCan(
        words=list(args.words),
        with_mfa=args.on("with-mfa"),
        with_device=args.on("with-device"),
        at=moment(args.text("at")),
        source_addr=source(args),
    )
    grants: list[Grant] = []
    with connect(args) as client:
        for part in client.stream(request, deadline_s=DEADLINE_S):
            grants += part.grants
    if args.text("format") != "text":
        formats.write_list(grants, args.text("format"))
        return 0
    rows = [
        (grant.user, grant.resource, ",".join(grant.principals), grant.resource_id, "; ".join(grant.reasons))
        for grant in grants
    ]
    sys.stdout.write(render(("User", "Resource", "As", "ID", "By"), rows))
    return 0
