"""`tctl recordings ls`."""

from __future__ import annotations

from pkgs.clients.tctl.connect import connect
from pkgs.clients.tctl.flags import FORMAT
from pkgs.clients.tsh.recordings import remote
from pkgs.common.output.argv import Parsed, Spec

SPEC = Spec(
    "List recorded sessions, newest first; those of the last day unless told otherwise.",
    *remote.WINDOW_FLAGS,
    FORMAT,
)


def run(args: Parsed) -> int:
    """Ask and print."""
    with connect(args) as client:
        remote.show(remote.listing(client, args), args.text("format"))
    return 0
