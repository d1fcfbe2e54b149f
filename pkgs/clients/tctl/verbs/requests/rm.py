"""`tctl requests rm`."""

from __future__ import annotations

import sys

from pkgs.clients.tctl.connect import connect
from pkgs.clients.tctl.verbs.requests.words import ids
from pkgs.common.api.requests import DeleteAccessRequest, GetAccessRequest
from pkgs.common.errors import InputError
from pkgs.common.output.argv import Flag, Parsed, Spec
from pkgs.common.output.sanitize import inert

SPEC = Spec(
    "Delete access requests. What an approved one gave is over for the Auth Service at once.",
    Flag("force", "Delete approved ones too", short="f", is_bool=True),
    usage="ID[,ID...]",
    least=1,
    most=1,
)


def run(args: Parsed) -> int:
    """Delete each; one that is in use only with --force."""
    named = ids(args)
    with connect(args) as client:
        for name in named:
            if not args.on("force"):
                found = client.call(GetAccessRequest(id=name)).request
                if found.spec.state == "APPROVED":
                    raise InputError(f"request {name} is approved and may be in use", hint="add --force")
            client.call(DeleteAccessRequest(id=name))
            sys.stdout.write(f"Access request {inert(name)} has been deleted.\n")
    return 0
