"""`tsh request review`."""

from __future__ import annotations

import sys

from pkgs.clients.tsh.profile.login import current
from pkgs.clients.tsh.requests import calls, flags
from pkgs.common.api.requests import ReviewAccessRequest
from pkgs.common.output.argv import Flag, Parsed, Spec

SPEC = Spec(
    "Approve or deny somebody's access request. Each reviewer has one review, and it stands.",
    Flag("approve", "Approve it", is_bool=True),
    Flag("deny", "Deny it", is_bool=True),
    Flag("reason", "Why", metavar="TEXT"),
    Flag("assume-start-time", "Let the access begin later than asked for (RFC 3339)", metavar="TIME"),
    usage="ID",
    least=1,
    most=1,
)


def run(args: Parsed) -> int:
    """Send the review; say what it came to."""
    approve = flags.one_of(args, "approve", "deny") == "approve"
    request = ReviewAccessRequest(
        id=args.words[0],
        proposed_state="APPROVED" if approve else "DENIED",
        reason=flags.reason(args, "reason"),
        assume_start_time=flags.moment(args, "assume-start-time"),
    )
    with calls.connected(current(args)) as client:
        state = client.call(request).request.spec.state
    sys.stderr.write(f"Successfully submitted review.  Request state: {state}\n")
    return 0
