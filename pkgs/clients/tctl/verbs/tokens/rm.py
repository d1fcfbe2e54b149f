"""`tctl tokens rm`."""

from __future__ import annotations

import sys

from pkgs.clients.tctl.connect import connect
from pkgs.common.api.resources import DeleteResource
from pkgs.common.output.argv import Parsed, Spec
from pkgs.common.output.sanitize import inert

SPEC = Spec("Delete a join token.", usage="TOKEN", least=1, most=1)


def run(args: Parsed) -> int:
    """Delete."""
    with connect(args) as client:
        client.call(DeleteResource(kind="token", name=args.words[0]))
    sys.stdout.write(f"Token {inert(args.words[0])} has been deleted\n")
    return 0
