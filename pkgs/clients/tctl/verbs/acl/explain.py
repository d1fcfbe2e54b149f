"""`tctl acl explain`."""

from __future__ import annotations

import sys

from pkgs.clients.tctl.connect import connect
from pkgs.clients.tctl.flags import FORMAT
from pkgs.common.api.accesslists import ExplainLists, GrantedBy, ListsOfUser
from pkgs.common.output import formats
from pkgs.common.output.argv import Parsed, Spec
from pkgs.common.output.sanitize import inert

SPEC = Spec(
    "Say which roles and traits access lists give a user, by which way, and which lists name the user without"
    " effect.",
    FORMAT,
    usage="USER",
    least=1,
    most=1,
)


def run(args: Parsed) -> int:
    """Ask and tell."""
    with connect(args) as client:
        found = client.call(ExplainLists(user=args.words[0]))
    if args.text("format") != "text":
        formats.write(found, args.text("format"))
    else:
        sys.stdout.write("".join(f"{line}\n" for line in lines(found)))
    return 0


def lines(found: ListsOfUser) -> list[str]:
    """The text form; everything that came from outside is inert."""
    told = [f"roles of {inert(found.user)} at a login: {inert(', '.join(found.roles)) or 'none'}"]
    told.append("from access lists:" if found.granted else "from access lists: nothing")
    told += [f"  {_granted(grant)}" for grant in found.granted]
    if found.without_effect:
        told.append("without effect:")
        told += [f"  {inert(name)}: {inert(why)}" for name, why in sorted(found.without_effect.items())]
    return told


def _granted(grant: GrantedBy) -> str:
    what = f"role {inert(grant.name)}"
    if grant.what == "trait":
        what = f"trait {inert(grant.name)}: {inert(grant.value)}"
    return f"{what}, as {'owner' if grant.as_owner else 'member'} of {inert(' > '.join(grant.path))}"
