"""`tctl acl summary`."""

from __future__ import annotations

from pkgs.clients.tctl.connect import connect
from pkgs.clients.tctl.inventory import LIST_DEADLINE_S
from pkgs.common.api.accesslists import SummarizeLists
from pkgs.common.output import formats
from pkgs.common.output.argv import Flag, Parsed, Spec

SPEC = Spec(
    "What a reviewer looks at first: owners, numbers of members, what is granted, when the review is due."
    " Without a name, lists whose review is due or near; --no-review-only for all.",
    Flag("format", "Output format", default="yaml", choices=("yaml", "json"), metavar="FORMAT"),
    Flag("review-only", "Only lists whose review is due or near", is_bool=True, default="true"),
    usage="[NAME]",
    most=1,
)


def run(args: Parsed) -> int:
    """Ask and print."""
    name = args.words[0] if args.words else ""
    # One that was named is wanted, due or not.
    request = SummarizeLists(name=name, review_only=args.on("review-only") and not name)
    with connect(args) as client:
        found = [s for part in client.stream(request, deadline_s=LIST_DEADLINE_S) for s in part.summaries]
    formats.write_list(found, args.text("format"))
    return 0
