"""`tctl acl users ls`."""

from __future__ import annotations

import sys

from pkgs.clients.tctl.connect import connect
from pkgs.clients.tctl.flags import FORMAT
from pkgs.clients.tctl.inventory import LIST_DEADLINE_S
from pkgs.common.api.accesslists import ListMembers
from pkgs.common.output import times
from pkgs.common.output.argv import Parsed, Spec
from pkgs.common.output.resources import write_list
from pkgs.common.output.table import render, terminal_width
from pkgs.common.resources.kinds import AccessListMember

SPEC = Spec(
    "List the members of an access list, and whether each counts now.", FORMAT, usage="LIST", least=1, most=1
)
HEADERS = ("Member", "Kind", "Status", "Joined", "Expires", "Added By", "Reason")
_STATUS = "INELIGIBLE_STATUS_"


def run(args: Parsed) -> int:
    """Ask and print."""
    request = ListMembers(access_list=args.words[0])
    with connect(args) as client:
        found = [m for part in client.stream(request, deadline_s=LIST_DEADLINE_S) for m in part.members]
    if args.text("format") != "text":
        write_list(found, args.text("format"))
    elif not found:
        sys.stdout.write("No members found\n")
    else:
        sys.stdout.write(render(HEADERS, [row(member) for member in found], width=terminal_width()))
    return 0


def row(member: AccessListMember) -> tuple[str, ...]:
    spec = member.spec
    return (
        member.name,
        "list" if spec.membership_kind == "MEMBERSHIP_KIND_LIST" else "user",
        spec.ineligible_status.removeprefix(_STATUS).lower().replace("_", " "),
        times.short(spec.joined.timestamp()) if spec.joined else "",
        times.short(spec.expires.timestamp()) if spec.expires else "never",
        spec.added_by,
        spec.reason,
    )
