"""`tctl bots rm`."""

from __future__ import annotations

import sys

from pkgs.clients.tctl.connect import connect
from pkgs.common.api.resources import DeleteResource
from pkgs.common.output.argv import Parsed, Spec
from pkgs.common.output.sanitize import inert

SPEC = Spec(
    "Delete a bot with its user, role, tokens and instances. The Auth Service knows its certificates no more"
    " at once; servers accept what it took on until that expires, unless 'tctl bots lock' comes first.",
    usage="NAME",
    least=1,
    most=1,
)


def run(args: Parsed) -> int:
    """Delete it."""
    with connect(args) as client:
        client.call(DeleteResource(kind="bot", name=args.words[0]))
    sys.stdout.write(f'Bot "{inert(args.words[0])}" deleted successfully.\n')
    return 0
