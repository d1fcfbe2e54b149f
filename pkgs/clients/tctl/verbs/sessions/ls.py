"""`tctl sessions ls`."""

from __future__ import annotations

from pkgs.clients.tctl.connect import connect
from pkgs.clients.tctl.flags import FORMAT
from pkgs.clients.tsh.sessions import listing
from pkgs.common.output.argv import Parsed, Spec

SPEC = Spec("List the live sessions of the cluster, the oldest first.", listing.KIND, FORMAT)


def run(args: Parsed) -> int:
    """Ask and print."""
    with connect(args) as client:
        found = listing.fetch(client, kind=args.text("kind"))
    listing.show(found, args.text("format"))
    return 0
