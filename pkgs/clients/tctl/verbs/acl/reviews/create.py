"""`tctl acl reviews create`."""

from __future__ import annotations

import sys

from pkgs.clients.tctl.connect import connect
from pkgs.clients.tctl.flags import commas
from pkgs.common.api.accesslists import ReviewList
from pkgs.common.output.argv import Flag, Parsed, Spec
from pkgs.common.output.sanitize import inert

SPEC = Spec(
    "Record that you have reviewed the members of an access list, and take some of them out. The next review"
    " is due one interval later.",
    Flag("notes", "What the review found", metavar="TEXT"),
    Flag("remove-members", "Members that go, comma separated", metavar="NAMES"),
    usage="LIST",
    least=1,
    most=1,
)


def run(args: Parsed) -> int:
    """Review."""
    names = commas(args.text("remove-members"))
    request = ReviewList(access_list=args.words[0], notes=args.text("notes"), remove_members=names)
    with connect(args) as client:
        answer = client.call(request)
    sys.stdout.write(f'Review {answer.id} of access list "{inert(args.words[0])}" has been recorded\n')
    for name in names:
        sys.stdout.write(f'"{inert(name)}" has been removed\n')
    sys.stdout.write(f"The next review is due {inert(answer.next_audit_date[:10])}\n")
    return 0
