"""`tsh request drop`."""

from __future__ import annotations

import sys

from pkgs.clients.tsh.profile.describe import as_text
from pkgs.clients.tsh.profile.login import current
from pkgs.clients.tsh.requests.certificates import renew
from pkgs.common.output.argv import Parsed, Spec

SPEC = Spec(
    "Give back access requests: new certificates without what they gave, and without the restriction to"
    " their resources. Without an id all of them.",
    usage="[ID...]",
    most=16,
)
EVERY = "*"


def run(args: Parsed) -> int:
    """Renew without them."""
    login = current(args)
    if not login.facts.requests():
        sys.stdout.write("This login holds no access requests.\n")
        return 0
    renewed = renew(login, drop=args.words or [EVERY])
    sys.stdout.write(as_text(renewed, active=True))
    return 0
