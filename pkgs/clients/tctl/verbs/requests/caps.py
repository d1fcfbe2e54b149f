"""`tctl requests caps`."""

from __future__ import annotations

import sys

from pkgs.clients.tctl.connect import connect
from pkgs.clients.tctl.flags import FORMAT
from pkgs.common.api.requests import GetRequestCapabilities
from pkgs.common.output import formats
from pkgs.common.output.argv import Parsed, Spec
from pkgs.common.output.sanitize import inert

SPEC = Spec("Show what a user may request, and who is suggested to decide.", FORMAT, usage="USER", least=1,
            most=1)  # fmt: skip


def run(args: Parsed) -> int:
    """Ask and print."""
    with connect(args) as client:
        found = client.call(GetRequestCapabilities(user=args.words[0]))
    if args.text("format") != "text":
        formats.write(found, args.text("format"))
        return 0
    for title, names in (
        ("Requestable Roles", found.requestable_roles),
        ("Search As Roles", found.search_as_roles),
        ("Suggested Reviewers", found.suggested_reviewers),
    ):
        sys.stdout.write(f"{title}: {inert(', '.join(names)) or 'none'}\n")
    return 0
