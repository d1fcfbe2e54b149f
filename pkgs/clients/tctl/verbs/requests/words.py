"""What the verbs on requests share: their flags, ids divided by commas, and how a decision is sent."""

from __future__ import annotations

from pkgs.clients.tctl.connect import connect
from pkgs.clients.tctl.flags import commas
from pkgs.clients.tsh.requests import flags
from pkgs.common.api.requests import Decided, SetAccessRequestState
from pkgs.common.errors import InputError
from pkgs.common.output.argv import Flag, Parsed

DECISION_FLAGS = (
    Flag("delegator", "On whose behalf, for the audit log", metavar="NAME"),
    Flag("reason", "Why", metavar="TEXT"),
    Flag("annotations", "Notes on the decision, k=v,...; a key may come again", metavar="NOTES"),
)


def ids(args: Parsed) -> list[str]:
    """The ids of the first word, each once."""
    found = commas(args.words[0])
    if not found:
        raise InputError("no request is named", hint="give its id, or several divided by commas")
    return found


def decide(args: Parsed, state: Decided, roles: list[str]) -> int:
    """The same decision about each of them."""
    annotations: dict[str, list[str]] = {}
    for pair in commas(args.text("annotations")):
        key, equals, value = pair.partition("=")
        if not equals or not key:
            raise InputError(f"--annotations: {pair[:60]!r} is not k=v")
        annotations.setdefault(key, []).append(value)
    reason = flags.reason(args, "reason")
    named = ids(args)
    with connect(args) as client:
        for name in named:
            client.call(
                SetAccessRequestState(
                    id=name,
                    state=state,
                    reason=reason,
                    delegator=args.text("delegator"),
                    annotations=annotations,
                    roles=roles,
                )
            )
    return 0
