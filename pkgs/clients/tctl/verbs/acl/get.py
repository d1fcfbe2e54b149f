"""`tctl acl get`."""

from __future__ import annotations

from pkgs.clients.tctl.connect import connect
from pkgs.clients.tctl.verbs.acl.show import FORMAT, write_lists
from pkgs.common.api.accesslists import GetAccessList
from pkgs.common.output.argv import Parsed, Spec

SPEC = Spec("Print one access list.", FORMAT, usage="NAME", least=1, most=1)


def run(args: Parsed) -> int:
    """Ask and print."""
    with connect(args) as client:
        found = client.call(GetAccessList(name=args.words[0])).access_list
    write_lists([found], args.text("format"))
    return 0
