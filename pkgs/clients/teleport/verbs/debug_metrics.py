"""`teleport debug metrics`."""

from __future__ import annotations

import sys

from pkgs.clients.teleport.debugclient import ask_all
from pkgs.common.output.argv import Parsed, Spec

SPEC = Spec("Print the metrics of every service of the data dir in the Prometheus format.")


def run(args: Parsed) -> int:
    """Ask and print."""
    replies = ask_all(args, "GET", "/metrics")
    for entry, reply in replies:
        if len(replies) > 1:
            sys.stdout.write(f"# service {entry.service}\n")
        sys.stdout.write(f"{reply.text}\n")
    return 0
