"""`tctl requests deny`."""

from __future__ import annotations

from pkgs.clients.tctl.verbs.requests.words import DECISION_FLAGS, decide
from pkgs.common.output.argv import Parsed, Spec

SPEC = Spec(
    "Deny access requests, approved ones too: what they gave is refused by the Auth Service at once. Sessions"
    " that run, and servers, go on until 'tctl lock --access-request' or the certificate's end.",
    *DECISION_FLAGS,
    usage="ID[,ID...]",
    least=1,
    most=1,
)


def run(args: Parsed) -> int:
    """Silent when it is done."""
    return decide(args, "DENIED", [])
