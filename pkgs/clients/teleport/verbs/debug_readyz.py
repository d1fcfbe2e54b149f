"""`teleport debug readyz`."""

from __future__ import annotations

from pkgs.clients.teleport.debugclient import ask_all, said, status_text
from pkgs.common.output.argv import Parsed, Spec

SPEC = Spec("Tell whether every service of the data dir is ready; exit 1 when one is not.")


def run(args: Parsed) -> int:
    """Ask and print."""
    replies = ask_all(args, "GET", "/readyz")
    for entry, reply in replies:
        print(said(replies, entry, status_text(reply)))
    return 0 if all(reply.status == 200 for _, reply in replies) else 1
