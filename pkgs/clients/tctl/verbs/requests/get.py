"""`tctl requests get`."""

from __future__ import annotations

import sys

from pkgs.clients.tctl.connect import connect
from pkgs.clients.tctl.flags import FORMAT
from pkgs.clients.tctl.verbs.requests.show import block
from pkgs.clients.tctl.verbs.requests.words import ids
from pkgs.common.api.requests import GetAccessRequest
from pkgs.common.output.argv import Parsed, Spec
from pkgs.common.output.resources import write_list

SPEC = Spec("Show access requests in full.", FORMAT, usage="ID[,ID...]", least=1, most=1)


def run(args: Parsed) -> int:
    """Ask and print."""
    named = ids(args)
    with connect(args) as client:
        found = [client.call(GetAccessRequest(id=name)) for name in named]
    if args.text("format") == "text":
        sys.stdout.write("\n".join(block(shown) for shown in found))
    else:
        write_list([shown.request for shown in found], args.text("format"))
    return 0
