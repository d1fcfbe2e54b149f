"""`tctl acl reviews ls`."""

from __future__ import annotations

import sys

from pkgs.clients.tctl.connect import connect
from pkgs.clients.tctl.flags import FORMAT
from pkgs.clients.tctl.inventory import LIST_DEADLINE_S
from pkgs.common.api.accesslists import ListReviews
from pkgs.common.output import formats, times
from pkgs.common.output.argv import Parsed, Spec
from pkgs.common.output.table import render, terminal_width

SPEC = Spec(
    "List the reviews of an access list, newest first; the audit log keeps them all.",
    FORMAT,
    usage="LIST",
    least=1,
    most=1,
)
HEADERS = ("ID", "Review Date", "Author", "Removed Members", "Notes")


def run(args: Parsed) -> int:
    """Ask and print."""
    request = ListReviews(access_list=args.words[0])
    with connect(args) as client:
        found = [r for part in client.stream(request, deadline_s=LIST_DEADLINE_S) for r in part.reviews]
    if args.text("format") != "text":
        formats.write_list(found, args.text("format"))
    elif not found:
        sys.stdout.write("No reviews found\n")
    else:
        rows = [
            (
                r.id,
                times.short(times.parse(r.review_date, flag="the date of a review")),
                r.author,
                ",".join(r.removed_members),
                r.notes,
            )
            for r in found
        ]
        sys.stdout.write(render(HEADERS, rows, width=terminal_width()))
    return 0
