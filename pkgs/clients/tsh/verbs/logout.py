"""`tsh logout`."""

from __future__ import annotations

import sys

from pkgs.clients.tsh.profile import home, store
from pkgs.common.errors import InputError
from pkgs.common.output.argv import Parsed, Spec
from pkgs.common.output.sanitize import inert

SPEC = Spec("Delete the keys and certificates of every cluster, or only those of --proxy (and --user).")


def run(args: Parsed) -> int:
    """Delete; not being logged in is no failure."""
    where = home.home_dir()
    names = home.profile_names(where)
    if args.text("proxy"):
        wanted = home.profile_name(args.text("proxy"))
        names = [name for name in names if name == wanted]
    if "user" in args.given:
        for name in list(names):
            user = home.load(where, name).user
            if user != args.text("user"):
                if args.text("proxy"):
                    raise InputError(f"{user} is logged in to {name}, not {args.text('user')[:60]}")
                names.remove(name)
    gone = [name for name in names if store.remove(where, name)]
    for name in gone:
        sys.stdout.write(f"Logged out of {inert(name)}.\n")
    if not gone:
        sys.stdout.write("Not logged in.\n")
    return 0
