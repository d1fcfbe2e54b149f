"""`tctl requests review`."""

from __future__ import annotations

import sys

from pkgs.clients.tctl.connect import connect
from pkgs.clients.tsh.requests import flags
from pkgs.common.api.requests import ReviewAccessRequest
from pkgs.common.errors import InputError
from pkgs.common.output.argv import Flag, Parsed, Spec

SPEC = Spec(
    "Pass on a review that an author, who must be entitled to it, gave elsewhere. On the Auth host.",
    Flag("author", "User whose review it is", metavar="USER"),
    Flag("approve", "The author approves", is_bool=True),
    Flag("deny", "The author denies", is_bool=True),
    Flag("reason", "Why", metavar="TEXT"),
    usage="ID",
    least=1,
    most=1,
)


def run(args: Parsed) -> int:
    """Send the review; say what it came to."""
    approve = flags.one_of(args, "approve", "deny") == "approve"
    if not args.text("author"):
        raise InputError("--author is missing", hint="name the user whose review it is")
    request = ReviewAccessRequest(
        id=args.words[0],
        proposed_state="APPROVED" if approve else "DENIED",
        reason=flags.reason(args, "reason"),
        author=args.text("author"),
    )
    with connect(args) as client:
        spec = client.call(request).request.spec
    if not spec.reviews[-1].threshold_indexes:
        sys.stderr.write(
            f"WARNING: ineffectual review: no threshold counts it.  Request state: {spec.state}\n"
        )
    else:
        sys.stderr.write(f"Successfully submitted review.  Request state: {spec.state}\n")
    return 0
