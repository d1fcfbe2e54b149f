"""`teleport debug get-log-level`."""

from __future__ import annotations

from pkgs.clients.teleport.debugclient import ask_all, said
from pkgs.common.output.argv import Parsed, Spec

SPEC = Spec("Print the level that is logged now, for every service of the data dir.")


def run(args: Parsed) -> int:
    """Ask and print."""
    replies = ask_all(args, "GET", "/log-level")
    for entry, reply in replies:
        print(said(replies, entry, f'Current log level "{reply.text}"'))
    return 0
