"""`tctl access who`."""

from __future__ import annotations

import sys

from pkgs.clients.tctl.connect import connect
from pkgs.clients.tctl.flags import FORMAT
from pkgs.clients.tctl.verbs.access.words import DEADLINE_S, WITH_MFA, login_and_node
from pkgs.common.api.access import Grant, WhoCan
from pkgs.common.errors import InputError
from pkgs.common.output import formats
from pkgs.common.output.argv import Parsed, Spec
from pkgs.common.output.table import render

SPEC = Spec(
    "List the users who may log in to a server, and by which role.",
    WITH_MFA,
    FORMAT,
    usage="ssh LOGIN@NODE",
    least=2,
    most=2,
)


def run(args: Parsed) -> int:
    """Ask and print."""
    if args.words[0] != "ssh":
        raise InputError(f"{args.words[0][:80]!r} is no action", hint="write ssh LOGIN@NODE")
    login, node = login_and_node(args.words[1])
    request = WhoCan(login=login, node=node, with_mfa=args.on("with-mfa"))
    grants: list[Grant] = []
    with connect(args) as client:
        for part in client.stream(request, deadline_s=DEADLINE_S):
            grants += part.grants
    if args.text("format") != "text":
        formats.write_list(grants, args.text("format"))
        return 0
    rows = [(grant.user, grant.node, grant.node_id, "; ".join(grant.reasons)) for grant in grants]
    sys.stdout.write(render(("User", "Node", "Node ID", "By"), rows))
    return 0
