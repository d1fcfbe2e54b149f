"""`tctl acl users add`."""

from __future__ import annotations

import sys
import time

from pkgs.clients.tctl.connect import connect
from pkgs.common.api.accesslists import AddMember
from pkgs.common.errors import InputError
from pkgs.common.output import times
from pkgs.common.output.argv import Flag, Parsed, Spec
from pkgs.common.output.sanitize import inert

SPEC = Spec(
    "Let a user, or the members of another list, into an access list; until EXPIRES (RFC 3339) if given. It"
    " has effect from the next login on. For the owners of the list and those whose rules allow it.",
    Flag("kind", "What is added", default="user", choices=("user", "list"), metavar="KIND"),
    usage="LIST USER [EXPIRES] [REASON]",
    least=2,
    most=4,
)


def run(args: Parsed) -> int:
    """Add the member."""
    request = request_of(args, time.time())
    with connect(args) as client:
        client.call(request)
    added, place = inert(request.name), inert(request.access_list)
    sys.stdout.write(f'{request.kind} "{added}" has been added to access list "{place}"\n')
    return 0


def request_of(args: Parsed, now: float) -> AddMember:
    """What the words ask for; an empty EXPIRES is none."""
    list_name, name, expires, reason = (*args.words, "", "")[:4]
    expires_at = times.parse(expires, flag="EXPIRES") if expires else 0.0
    if expires_at and expires_at <= now:
        raise InputError("EXPIRES: this time is over")
    return AddMember(
        access_list=list_name,
        name=name,
        kind="list" if args.text("kind") == "list" else "user",
        expires_at=expires_at,
        reason=reason,
    )
