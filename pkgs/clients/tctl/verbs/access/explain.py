"""`tctl access explain`."""

from __future__ import annotations

import sys

from pkgs.clients.tctl.connect import connect
from pkgs.clients.tctl.flags import FORMAT
from pkgs.clients.tctl.verbs.access.words import CIRCUMSTANCES, ROLES, USER, somebody
from pkgs.common.access.explaining.actions import MAX_WORDS, REQUEST_USAGE, RULE_USAGE, USAGE, parse_action
from pkgs.common.api.access import ExplainAccess
from pkgs.common.errors import InputError
from pkgs.common.output import formats
from pkgs.common.output.argv import Parsed, Spec
from pkgs.common.output.sanitize import inert

_ALL = (*USAGE.values(), RULE_USAGE, REQUEST_USAGE)
SPEC = Spec(
    "Say whether a user may do something and by which role and field; for a denial also the least that would"
    " have to change. Decides as if the user had just logged in. The exit status is 0 also for a denial.",
    USER,
    ROLES,
    *CIRCUMSTANCES,
    FORMAT,
    usage=" | ".join(_ALL),
    least=2,
    most=MAX_WORDS,
)


def run(args: Parsed) -> int:
    """Ask and tell."""
    request = request_of(args)
    with connect(args) as client:
        found = client.call(request)
    if args.text("format") != "text":
        formats.write(found, args.text("format"))
    else:
        sys.stdout.write("".join(f"{inert(line)}\n" for line in found.lines()))
    return 0


def request_of(args: Parsed) -> ExplainAccess:
    """The question that the words ask; what is not understood is said before anything is sent."""
    who = somebody(args)
    if args.words[0] == "resource":
        if len(args.words) not in (3, 4):
            raise InputError("resource: this is not how it is written", hint=f"write {RULE_USAGE}")
    elif args.words[0] == "request":
        if len(args.words) != 2:
            raise InputError("request: this is not how it is written", hint=f"write {REQUEST_USAGE}")
    elif args.words[0] not in USAGE:
        raise InputError(f"{args.words[0][:40]!r} is no action", hint=f"write one of: {'; '.join(_ALL)}")
    else:
        parse_action(args.words)
    return ExplainAccess(who=who, words=list(args.words))
