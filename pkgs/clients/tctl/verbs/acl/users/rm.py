"""`tctl acl users rm`."""

from __future__ import annotations

import sys

from pkgs.clients.tctl.connect import connect
from pkgs.common.api.accesslists import RemoveMember
from pkgs.common.output.argv import Parsed, Spec
from pkgs.common.output.sanitize import inert

SPEC = Spec("Take a user or a list out of an access list.", usage="LIST USER", least=2, most=2)


def run(args: Parsed) -> int:
    """Remove the member."""
    list_name, name = args.words
    with connect(args) as client:
        client.call(RemoveMember(access_list=list_name, name=name))
    sys.stdout.write(f'"{inert(name)}" has been removed from access list "{inert(list_name)}"\n')
    sys.stderr.write(
        "What the list gave ends with the certificates that have it; 'tctl lock --user=NAME' ends it now.\n"
    )
    return 0
