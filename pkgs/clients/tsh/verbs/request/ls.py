"""`tsh request ls`."""

from __future__ import annotations

import sys

from pkgs.clients.tsh.flags import FORMAT, VERBOSE
from pkgs.clients.tsh.profile.login import current
from pkgs.clients.tsh.requests import calls, show
from pkgs.common.errors import InputError
from pkgs.common.output.argv import Flag, Parsed, Spec
from pkgs.common.output.resources import write_list

SPEC = Spec(
    "List access requests: your own, and those that you may review.",
    FORMAT,
    VERBOSE,
    Flag("my-requests", "Only your own", is_bool=True),
    Flag("reviewable", "Only those that wait for a review of yours", is_bool=True),
    Flag("suggested", "Only those that suggest you as a reviewer", is_bool=True),
)
WHICH: dict[str, calls.Which] = {
    "my-requests": "mine",
    "reviewable": "reviewable",
    "suggested": "suggested",
}


def run(args: Parsed) -> int:
    """Ask and print."""
    given = [name for name in WHICH if args.on(name)]
    if len(given) > 1:
        raise InputError(f"use only one of --{', --'.join(WHICH)}")
    with calls.connected(current(args)) as client:
        found = calls.listed(client, WHICH[given[0]] if given else "all")
    if args.text("format") != "text":
        write_list([shown.request for shown in found], args.text("format"))
    elif not found:
        sys.stdout.write("No access requests.\n")
    else:
        sys.stdout.write(show.table(found, cut=not args.on("verbose")))
    return 0
