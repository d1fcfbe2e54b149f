"""`tsh sessions ls`."""

from __future__ import annotations

from pkgs.clients.tsh.connections.dial import auth_client
from pkgs.clients.tsh.flags import CLUSTER, FORMAT
from pkgs.clients.tsh.profile.login import current
from pkgs.clients.tsh.sessions import listing
from pkgs.common.output.argv import Parsed, Spec

SPEC = Spec(
    "List the live sessions you may see: your own, those you may join, and those a rule lets you list. 'tsh"
    " join ID' joins one.",
    listing.KIND,
    FORMAT,
    CLUSTER,
)


def run(args: Parsed) -> int:
    """Ask and print."""
    client = auth_client(current(args))
    try:
        found = listing.fetch(client, kind=args.text("kind"))
    finally:
        client.close()
    listing.show(found, args.text("format"))
    return 0
