"""`tctl acl ls`."""

from __future__ import annotations

from pkgs.clients.tctl.connect import connect
from pkgs.clients.tctl.inventory import LIST_DEADLINE_S
from pkgs.clients.tctl.verbs.acl.show import FORMAT, write_lists
from pkgs.common.api.accesslists import ListAccessLists
from pkgs.common.output.argv import Flag, Parsed, Spec

SPEC = Spec(
    "List access lists: all that you may read, and those that you own.",
    FORMAT,
    Flag("review-only", "Only lists whose review is due or near", is_bool=True),
)


def run(args: Parsed) -> int:
    """Ask and print."""
    request = ListAccessLists(review_only=args.on("review-only"))
    with connect(args) as client:
        found = [a for part in client.stream(request, deadline_s=LIST_DEADLINE_S) for a in part.lists]
    write_lists(found, args.text("format"))
    return 0
