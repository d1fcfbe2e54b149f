"""`tsh request show`."""

from __future__ import annotations

import sys

from pkgs.clients.tsh.flags import FORMAT
from pkgs.clients.tsh.profile.login import current
from pkgs.clients.tsh.requests import calls, show
from pkgs.common.api.requests import GetAccessRequest
from pkgs.common.output import formats
from pkgs.common.output.argv import Parsed, Spec
from pkgs.common.resources.codec import to_builtins

SPEC = Spec("Show an access request with its reviews.", FORMAT, usage="ID", least=1, most=1)


def run(args: Parsed) -> int:
    """Ask and print."""
    with calls.connected(current(args)) as client:
        shown = client.call(GetAccessRequest(id=args.words[0]))
    if args.text("format") == "text":
        sys.stdout.write(show.block(shown))
    else:
        formats.write(to_builtins(shown.request), args.text("format"))
    return 0
