"""`tctl requests approve`."""

from __future__ import annotations

from pkgs.clients.tctl.flags import commas
from pkgs.clients.tctl.verbs.requests.words import DECISION_FLAGS, decide
from pkgs.common.output.argv import Flag, Parsed, Spec

SPEC = Spec(
    "Approve access requests, whatever their reviews say.",
    *DECISION_FLAGS,
    Flag("roles", "Approve only these of the requested roles: role,role", metavar="ROLES"),
    usage="ID[,ID...]",
    least=1,
    most=1,
)


def run(args: Parsed) -> int:
    """Silent when it is done."""
    return decide(args, "APPROVED", commas(args.text("roles")))
